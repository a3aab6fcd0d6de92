//! The composition of one server: builds every use case in the order of their crates and starts their tasks.

mod avatars;
mod edus;
mod federation;
mod history;
mod open;
mod room_media;
mod rooms;
mod services;
mod spaces;
mod timers;

pub use self::{
    federation::Federated,
    room_media::RoomMedia,
    services::{Keys, Remotes, Services, database_options},
};
