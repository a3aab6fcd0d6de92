//! User-interactive authentication: confirmation of what cannot be undone.
//!
//! Invariants: a session is a row, which serves one operation of one user and confirms one request; that
//! request, repeated, gets its answer again until the session expires. Another user's password is never
//! proof.

mod repeat;

use std::{sync::Arc, time::Duration};

use ruma::{
    UserId,
    api::{
        client::uiaa::{AuthData, AuthFlow, AuthType, Password, UiaaInfo, UserIdentifier},
        error::{ErrorKind, StandardErrorBody},
    },
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use wick_core::{Error, Result};
use wick_database::{
    Durability, Read,
    schema::confirmations::{Digest, UIA_SESSION_BY_HASH, UiaSession},
};
use wick_runtime::{Limit, Limits, Resources};

pub use self::repeat::{Finished, Request};
use crate::{
    Session,
    proof::{Kind, Proof, RequestSecret},
    sessions::hash,
    users::{Origin, Users, login_user_id},
};

/// How long a session confirms a request, and how long that is answered again.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Opens and checks sessions.
pub struct Uia {
    resources: Resources,
    limits: Arc<Limits>,
    users: Arc<Users>,
}

/// What comes of a request that needs confirmation.
pub enum Confirmation {
    /// More is to be shown; status 401.
    Challenge(Box<UiaaInfo>),
    /// All is shown.
    Confirmed(Proof),
}

/// Why a stage did not succeed.
enum Failure {
    /// Nothing was shown, or another stage than the one wanted.
    Missing,
    /// What was shown is wrong.
    Wrong(&'static str),
}

/// A request and what it shows.
struct Shown<'a> {
    operation: Digest,
    request: &'a Request,
    auth: Option<&'a AuthData>,
}

impl Uia {
    /// Checks passwords of these users.
    #[must_use]
    pub fn new(resources: Resources, limits: Arc<Limits>, users: Arc<Users>) -> Self {
        Self { resources, limits, users }
    }

    /// Asks a logged-in user for the password again. `operation` names what for, with what may not change
    /// between two requests of one session.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, 403, if another user's password, or a session of another operation or request, is
    /// shown; `M_LIMIT_EXCEEDED`.
    pub async fn confirm(
        &self,
        session: &Session,
        operation: &str,
        request: &Request,
        auth: Option<&AuthData>,
    ) -> Result<Confirmation> {
        let operation = digest(&format!("{} {operation}", session.user_id));
        let shown = Shown { operation, request, auth };
        let open = self.open_session(&shown)?;
        let result = match auth {
            Some(AuthData::Password(password)) => self.check_password(session, password).await?,
            _ => Err(Failure::Missing),
        };
        self.conclude(AuthType::Password, &shown, open, result, Some(&session.user_id)).await
    }

    /// Asks for what registration needs: the token if one is configured, or nothing.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, 403, if a session of another operation or request is shown.
    pub async fn confirm_registration(
        &self,
        request: &Request,
        auth: Option<&AuthData>,
    ) -> Result<Confirmation> {
        let shown = Shown { operation: digest("register"), request, auth };
        let open = self.open_session(&shown)?;
        let (stage, result) = if self.users.needs_registration_token() {
            let result = match auth {
                Some(AuthData::RegistrationToken(shown))
                    if self.users.is_registration_token(&shown.token) =>
                {
                    Ok(())
                }
                Some(AuthData::RegistrationToken(_)) => {
                    Err(Failure::Wrong("this is not the registration token"))
                }
                _ => Err(Failure::Missing),
            };
            (AuthType::RegistrationToken, result)
        } else {
            let is_shown = matches!(auth, Some(AuthData::Dummy(_)));
            (AuthType::Dummy, if is_shown { Ok(()) } else { Err(Failure::Missing) })
        };
        self.conclude(stage, &shown, open, result, None).await
    }

    async fn check_password(
        &self,
        session: &Session,
        shown: &Password,
    ) -> Result<Result<(), Failure>> {
        let UserIdentifier::Matrix(identifier) = &shown.identifier else {
            return Ok(Err(Failure::Wrong("this kind of identifier is not supported")));
        };
        let user_id = login_user_id(&identifier.user, &self.resources.config.server.name)
            .filter(|user_id| *user_id == session.user_id)
            .ok_or_else(|| Error::forbidden("this needs the password of the account itself"))?;
        let origin = Origin::Device(&session.device_id);
        let account = self.users.check_password(Some(&user_id), &shown.password, origin).await?;
        Ok(account.map(drop).ok_or(Failure::Wrong("wrong password")))
    }

    /// The id of the session that is shown, if it can confirm this request. A session that is not known
    /// counts as none.
    fn open_session<'a>(&self, shown: &Shown<'a>) -> Result<Option<&'a str>> {
        let Some(id) = shown.auth.and_then(AuthData::session) else { return Ok(None) };
        let Some(row) = self.session(id)? else { return Ok(None) };
        if row.operation != shown.operation || row.finished.is_some() {
            return Err(Error::forbidden("this session is for another operation"));
        }
        Ok(Some(id))
    }

    fn session(&self, id: &str) -> Result<Option<UiaSession>> {
        // Opened without a wait for the disk: it may not be published yet.
        let row = self.resources.database.latest().get(&UIA_SESSION_BY_HASH, &hash(id))?;
        Ok(row.filter(|row| row.expires > self.resources.clock.now()))
    }

    async fn conclude(
        &self,
        stage: AuthType,
        shown: &Shown<'_>,
        open: Option<&str>,
        result: Result<(), Failure>,
        owner: Option<&UserId>,
    ) -> Result<Confirmation> {
        let is_unknown = open.is_none() && shown.auth.and_then(AuthData::session).is_some();
        let failure = match (result, open) {
            (Ok(()), Some(id)) => {
                let request = RequestSecret::new(id, &shown.request.digest)?;
                let kind = Kind::Session { session: hash(id), request };
                return Ok(Confirmation::Confirmed(Proof(kind)));
            }
            (Ok(()), None) if !is_unknown => {
                return Ok(Confirmation::Confirmed(Proof(Kind::Stages)));
            }
            // What an expired session confirmed may be done already.
            (Ok(()), None) => Failure::Missing,
            (Err(failure), _) => failure,
        };
        let id = match open {
            Some(id) => id.to_owned(),
            None => self.open(shown.operation, owner).await?,
        };
        let mut info = UiaaInfo::new(vec![AuthFlow::new(vec![stage])]);
        info.session = Some(id);
        info.params = RawValue::from_string("{}".to_owned()).ok();
        if let Failure::Wrong(message) = failure {
            let body = StandardErrorBody::new(ErrorKind::Forbidden, message.to_owned());
            info.auth_error = Some(Box::new(body));
        }
        Ok(Confirmation::Challenge(Box::new(info)))
    }

    /// Opens a session and returns its id. Those of registrations are counted with them.
    async fn open(&self, operation: Digest, owner: Option<&UserId>) -> Result<String> {
        if let Some(owner) = owner {
            self.limits.ensure(Limit::Confirmations, owner)?;
        }
        let id = self.resources.random.token();
        let expires = self.resources.clock.now().after(LIFETIME);
        let row = UiaSession { operation, expires, finished: None };
        self.resources
            .change_with(Durability::Flushed, |batch| {
                batch.put(&UIA_SESSION_BY_HASH, &hash(&id), &row);
                Ok(())
            })
            .await?;
        Ok(id)
    }
}

fn digest(text: &str) -> Digest {
    Sha256::digest(text.as_bytes()).into()
}
