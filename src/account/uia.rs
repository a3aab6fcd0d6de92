//! User-interactive authentication: asking for proof before something that cannot be undone.
//!
//! Invariants: a session serves one operation of one user and ends with its success; proof of
//! somebody else is never proof. Sessions live in memory: after a restart a client asks anew.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use ruma::api::{
    client::uiaa::{AuthData, AuthFlow, AuthType, Password, UiaaInfo, UserIdentifier},
    error::{ErrorKind, StandardErrorBody},
};
use serde_json::value::RawValue;
use wick_core::{Error, Monotonic, Result};
use wick_runtime::Resources;

use crate::{
    Session,
    users::{Users, login_user_id},
};

const CACHED: usize = 10_000;
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What a session was opened for.
struct Opened {
    operation: String,
    at: Monotonic,
}

/// Opens and checks sessions.
pub struct Uia {
    resources: Resources,
    users: Arc<Users>,
    sessions: Cache<String, Arc<Opened>>,
}

/// Why a stage did not succeed.
enum Failure {
    /// Nothing was shown, or another stage than the one wanted.
    Missing,
    /// What was shown is wrong.
    Wrong(&'static str),
}

impl Uia {
    /// Checks passwords of these users.
    #[must_use]
    pub fn new(resources: Resources, users: Arc<Users>) -> Self {
        Self { resources, users, sessions: Cache::new(CACHED) }
    }

    /// Asks a logged-in user for the password again. `operation` says what for, with whatever may
    /// not change between two requests of one session. Answers what the client is to be told, with
    /// status 401, if it has not shown it; `None` if it has.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, 403, if somebody else's password or another operation's session is shown.
    pub async fn confirm(
        &self,
        session: &Session,
        operation: &str,
        auth: Option<&AuthData>,
    ) -> Result<Option<Box<UiaaInfo>>> {
        let operation = format!("{} {operation}", session.user_id);
        self.ensure_same(&operation, auth)?;
        let shown = match auth {
            Some(AuthData::Password(password)) => self.check_password(session, password).await?,
            _ => Err(Failure::Missing),
        };
        Ok(self.conclude(AuthType::Password, operation, auth, shown))
    }

    /// Asks a newcomer for what registration needs: the token if one is configured, or nothing.
    /// Answers as [`Uia::confirm`].
    ///
    /// # Errors
    /// `M_FORBIDDEN`, 403, if another operation's session is shown.
    pub fn confirm_registration(&self, auth: Option<&AuthData>) -> Result<Option<Box<UiaaInfo>>> {
        let operation = "register".to_owned();
        self.ensure_same(&operation, auth)?;
        if self.users.needs_registration_token() {
            let shown = match auth {
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
            return Ok(self.conclude(AuthType::RegistrationToken, operation, auth, shown));
        }
        let shown = match auth {
            Some(AuthData::Dummy(_)) => Ok(()),
            _ => Err(Failure::Missing),
        };
        Ok(self.conclude(AuthType::Dummy, operation, auth, shown))
    }

    async fn check_password(
        &self,
        session: &Session,
        shown: &Password,
    ) -> Result<Result<(), Failure>> {
        let UserIdentifier::Matrix(identifier) = &shown.identifier else {
            return Ok(Err(Failure::Wrong("this kind of identifier is not supported")));
        };
        let server = &self.resources.config.server.name;
        match login_user_id(&identifier.user, server) {
            Some(user_id) if user_id == session.user_id => {}
            _ => return Err(Error::forbidden("this needs the password of the account itself")),
        }
        let right = self.users.is_password(session.user, &shown.password).await?;
        Ok(if right { Ok(()) } else { Err(Failure::Wrong("wrong password")) })
    }

    /// A session that is known serves the operation it was opened for. One that is not known is
    /// as good as none: every stage here proves itself.
    fn ensure_same(&self, operation: &str, auth: Option<&AuthData>) -> Result<()> {
        if let Some(opened) = auth.and_then(AuthData::session).and_then(|id| self.sessions.get(id))
            && !self.is_over(&opened)
            && opened.operation != operation
        {
            return Err(Error::forbidden("this session is for another operation"));
        }
        Ok(())
    }

    fn is_over(&self, opened: &Opened) -> bool {
        self.resources.clock.monotonic().since(opened.at) > LIFETIME
    }

    fn conclude(
        &self,
        stage: AuthType,
        operation: String,
        auth: Option<&AuthData>,
        shown: Result<(), Failure>,
    ) -> Option<Box<UiaaInfo>> {
        let id = auth
            .and_then(AuthData::session)
            .filter(|id| self.sessions.get(*id).is_some_and(|opened| !self.is_over(&opened)));
        let failure = match shown {
            Ok(()) => {
                if let Some(id) = id {
                    self.sessions.remove(id);
                }
                return None;
            }
            Err(failure) => failure,
        };
        let id = id.map_or_else(
            || {
                let id = self.resources.random.token();
                let at = self.resources.clock.monotonic();
                self.sessions.insert(id.clone(), Arc::new(Opened { operation, at }));
                id
            },
            str::to_owned,
        );
        let mut info = UiaaInfo::new(vec![AuthFlow::new(vec![stage])]);
        info.session = Some(id);
        info.params = RawValue::from_string("{}".to_owned()).ok();
        if let Failure::Wrong(message) = failure {
            let body = StandardErrorBody::new(ErrorKind::Forbidden, message.to_owned());
            info.auth_error = Some(Box::new(body));
        }
        Some(Box::new(info))
    }
}
