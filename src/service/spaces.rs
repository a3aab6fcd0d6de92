//! Spaces whose rooms may be at other servers.

use wick_account::Session;
use wick_core::Result;
use wick_rooms::spaces::{AskHierarchy, Elsewhere, Hierarchy};

use crate::Services;

/// How often other servers are asked on behalf of one page: once for each level of spaces at other servers.
const MAX_ROUNDS: usize = 4;

impl Services {
    /// A page of the rooms below a room. Other servers are asked for those that this one is not in.
    ///
    /// # Errors
    /// As [`Spaces::hierarchy`](wick_rooms::Spaces::hierarchy).
    pub async fn hierarchy(&self, session: &Session, ask: &AskHierarchy) -> Result<Hierarchy> {
        let mut elsewhere = self.federated.as_ref().map(|_| Elsewhere::default());
        for _ in 0..MAX_ROUNDS {
            let hierarchy = self.spaces.hierarchy(session, ask, &mut elsewhere)?;
            let (Some(federated), Some(elsewhere)) = (&self.federated, &mut elsewhere) else {
                return Ok(hierarchy);
            };
            let wanted = elsewhere.take_wanted();
            if wanted.is_empty() {
                return Ok(hierarchy);
            }
            federated.rooms.describe(wanted, ask.suggested_only, elsewhere).await;
        }
        self.spaces.hierarchy(session, ask, &mut elsewhere)
    }
}
