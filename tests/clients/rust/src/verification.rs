//! Verifying another device of the same account by comparing emoji.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use matrix_sdk::{
    encryption::verification::{
        SasVerification, Verification, VerificationRequest, VerificationRequestState,
    },
    ruma::{
        OwnedTransactionId, OwnedUserId,
        events::key::verification::request::ToDeviceKeyVerificationRequestEvent,
    },
};
use serde_json::{Value, json};

use crate::device::{Device, eventually};

/// The verification that is going on.
#[derive(Clone, Default)]
pub(crate) struct Verifying {
    requested: Arc<Mutex<Option<(OwnedUserId, OwnedTransactionId)>>>,
    sas: Arc<Mutex<Option<SasVerification>>>,
}

impl Verifying {
    pub(crate) fn requested(&self, event: &ToDeviceKeyVerificationRequestEvent) {
        let request = (event.sender.clone(), event.content.transaction_id.clone());
        *self.requested.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
    }

    fn request(&self) -> Option<(OwnedUserId, OwnedTransactionId)> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sas(&self) -> Option<SasVerification> {
        self.sas.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the emoji of `sas` and returns their names.
    async fn show(&self, sas: SasVerification) -> Result<Value> {
        let emoji = eventually("the emoji", async || Ok(sas.emoji())).await?;
        *self.sas.lock().unwrap_or_else(PoisonError::into_inner) = Some(sas);
        Ok(json!(emoji.map(|one| one.description)))
    }
}

impl Device {
    /// Starts verifying the other device; returns the emoji that this one shows.
    pub(crate) async fn request_verification(&self, device: &str) -> Result<Value> {
        let encryption = self.client.encryption();
        let user = self.client.user_id().context("no user")?;
        let other = eventually("the other device", async || {
            Ok(encryption.get_device(user, device.into()).await?)
        });
        let request = other.await?.request_verification().await?;
        eventually("the request is accepted", async || Ok(request.is_ready().then_some(())))
            .await?;
        let sas = request.start_sas().await?.context("the verification cannot start")?;
        self.verifying.show(sas).await
    }

    /// Accepts a verification that the other device requested; returns the emoji that this one shows.
    pub(crate) async fn accept_verification(&self) -> Result<Value> {
        let encryption = self.client.encryption();
        let request = eventually("a request", async || {
            let Some((user, flow)) = self.verifying.request() else { return Ok(None) };
            Ok(encryption.get_verification_request(&user, flow.as_str()).await)
        });
        let request = request.await?;
        request.accept().await?;
        let sas = eventually("the verification starts", async || Ok(started(&request))).await?;
        sas.accept().await?;
        self.verifying.show(sas).await
    }

    /// Confirms that both devices show the same emoji, and waits until both have confirmed it.
    pub(crate) async fn confirm_verification(&self) -> Result<Value> {
        let sas = self.verifying.sas().context("nothing to confirm")?;
        sas.confirm().await?;
        eventually("both have confirmed", async || Ok(sas.is_done().then_some(()))).await?;
        Ok(Value::Null)
    }
}

fn started(request: &VerificationRequest) -> Option<SasVerification> {
    match request.state() {
        VerificationRequestState::Transitioned { verification: Verification::SasV1(sas) } => {
            Some(sas)
        }
        _ => None,
    }
}
