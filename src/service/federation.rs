//! Other servers, where federation is on.

use std::sync::Arc;

use ruma::api::error::ErrorKind;
use wick_core::{Error, Result};
use wick_federation::{Federation, Network};
use wick_runtime::Resources;

use crate::{Keys, Services};

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
    /// Other servers.
    ///
    /// # Errors
    /// 404 `M_UNRECOGNIZED` where federation is off.
    pub fn federation(&self) -> Result<&Arc<Federation>> {
        self.federation.as_ref().ok_or_else(|| {
            let message = "this server does not speak to other servers";
            Error::refused_with(404, ErrorKind::Unrecognized, message)
        })
    }
}
