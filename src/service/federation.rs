//! Other servers, where federation is on.

use std::sync::Arc;

use ruma::api::error::ErrorKind;
use wick_account::Users;
use wick_core::{Error, Result};
use wick_federation::{Federation, Network};
use wick_inbound::{Answers, Inbound};
use wick_remote::{Peers, RemoteRooms};
use wick_room::Graph;
use wick_rooms::Rooms;
use wick_runtime::{Resources, Supervisor};
use wick_sender::Sender;

use crate::{Keys, Services};

/// What exists only where federation is on.
pub struct Federated {
    /// Requests to and from other servers.
    pub federation: Arc<Federation>,
    /// The events that other servers send.
    pub inbound: Arc<Inbound<Peers>>,
    /// What other servers ask of the events of rooms.
    pub answers: Answers,
    /// Rooms of other servers.
    pub rooms: Arc<RemoteRooms>,
    /// Events and EDUs that other servers are sent.
    sender: Sender,
}

impl Federated {
    /// What exists where there is a way to other servers.
    pub(crate) fn open(
        federation: Option<Arc<Federation>>,
        resources: &Resources,
        graph: &Arc<Graph>,
        supervisor: &Arc<Supervisor>,
        accounts: (&Arc<Users>, &Arc<Rooms>),
    ) -> Option<Self> {
        let federation = federation?;
        let peers = Peers::new(Arc::clone(&federation));
        let inbound =
            Inbound::new(resources.clone(), Arc::clone(graph), Arc::clone(supervisor), peers);
        let answers = Answers::new(resources.clone(), Arc::clone(graph));
        let rooms = RemoteRooms::new(
            resources.clone(),
            Arc::clone(graph),
            Arc::clone(supervisor),
            (Arc::clone(accounts.0), Arc::clone(accounts.1)),
            (Arc::clone(&federation), Arc::clone(&inbound)),
        );
        let sender = Sender::new(
            resources.clone(),
            Arc::clone(graph),
            Arc::clone(&federation),
            Arc::clone(supervisor),
        );
        Some(Self { federation, inbound, answers, rooms, sender })
    }

    /// Starts the tasks.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) async fn start(&self) -> Result<()> {
        self.inbound.start()?;
        self.sender.start().await
    }
}

/// Opens the way to other servers, if the configuration wants that.
pub(crate) fn open(
    resources: &Resources,
    keys: &Keys,
    network: &Network,
) -> Result<Option<Arc<Federation>>> {
    if !resources.config.federation.enabled {
        return Ok(None);
    }
    let signing = (Arc::clone(&keys.signing), Arc::clone(&keys.store));
    Federation::new(resources, signing, network).map(Arc::new).map(Some)
}

impl Services {
    /// What exists only where federation is on.
    ///
    /// # Errors
    /// 404 `M_UNRECOGNIZED` where federation is off.
    pub fn federated(&self) -> Result<&Federated> {
        self.federated.as_ref().ok_or_else(|| {
            let message = "this server does not speak to other servers";
            Error::refused_with(404, ErrorKind::Unrecognized, message)
        })
    }

    /// Other servers.
    ///
    /// # Errors
    /// As [`Services::federated`].
    pub fn federation(&self) -> Result<&Arc<Federation>> {
        self.federated().map(|federated| &federated.federation)
    }
}
