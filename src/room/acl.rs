//! Which servers may take part in a room: `m.room.server_acl`.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>

use ruma::{
    ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use wick_core::{Pdu, Result, ShortRoomId, StateRoot};
use wick_database::Read;

use crate::Graph;

/// The server ACL of a room. A list that cannot be read denies no server, as if there were none.
#[derive(Clone, Debug, Default)]
pub struct Acl(Option<RoomServerAclEventContent>);

impl Acl {
    fn of(event: Option<&Pdu>) -> Self {
        let content = event.and_then(|event| event.content_as::<RoomServerAclEventContent>().ok());
        Self(content.map(|mut content| {
            for pattern in content.allow.iter_mut().chain(&mut content.deny) {
                pattern.make_ascii_lowercase();
            }
            content
        }))
    }

    /// Whether a server may take part in the room. Names are compared without regard to case (MSC4436).
    #[must_use]
    pub fn allows(&self, server: &ServerName) -> bool {
        let Some(content) = &self.0 else { return true };
        let lower = ServerName::parse(server.as_str().to_ascii_lowercase());
        lower.is_ok_and(|lower| content.is_allowed(&lower))
    }
}

impl Graph {
    /// The server ACL of a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn acl(&self, read: &impl Read, room: ShortRoomId) -> Result<Acl> {
        let event = self.state_event(read, room, &StateEventType::RoomServerAcl, "")?;
        Ok(Acl::of(event.as_deref()))
    }

    /// The server ACL in a state of a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn acl_at(&self, read: &impl Read, root: StateRoot) -> Result<Acl> {
        let event = self.state_event_at(read, root, &StateEventType::RoomServerAcl, "")?;
        let event = event.map(|event| self.load_event(read, event)).transpose()?;
        Ok(Acl::of(event.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn literal_addresses_are_denied_where_the_list_says_so_and_ports_do_not_count() {
        let allow = vec!["*".to_owned()];
        let deny = vec!["*.evil.test".to_owned()];
        let acl = |literals| {
            Acl(Some(RoomServerAclEventContent::new(literals, allow.clone(), deny.clone())))
        };
        for literal in
            [server_name!("127.0.0.1"), server_name!("127.0.0.1:8448"), server_name!("[::1]:8448")]
        {
            assert!(!acl(false).allows(literal), "{literal}");
            assert!(acl(true).allows(literal), "{literal}");
        }
        assert!(acl(false).allows(server_name!("good.test:8448")));
        assert!(!acl(true).allows(server_name!("One.EVIL.test:1")));
        assert!(Acl(None).allows(server_name!("127.0.0.1")));
    }
}
