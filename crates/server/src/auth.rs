//! The check before every control route: a key, and the scope that the route asks for.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use skep_access::{Principal, Scope};
use skep_api::ErrorCode;

use crate::{control::Control, reply::Failure};

/// What a route asks of its caller.
#[derive(Clone)]
pub(crate) struct Guard {
    pub control: Control,
    pub scope: Option<skep_api::Scope>,
}

/// Lets a request through with its [`Principal`], or answers why not.
pub(crate) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    match guard.principal(request.headers()) {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

impl Guard {
    pub fn principal(&self, headers: &HeaderMap) -> Result<Principal, Failure> {
        let token = bearer(headers).ok_or_else(|| {
            Failure::new(
                ErrorCode::Unauthorized,
                "this route needs an API key",
                "Send `Authorization: Bearer skep_…`; `skep key create` makes a key.",
            )
        })?;
        let principal = self.control.node.keys().authenticate(token, skep_node::now_ms())?;
        match self.scope.map(crate::convert::scope_in) {
            Some(scope) if !principal.scopes.allow(scope) => Err(lacking(&principal, scope)),
            _ => Ok(principal),
        }
    }
}

fn lacking(principal: &Principal, scope: Scope) -> Failure {
    Failure::new(
        ErrorCode::Forbidden,
        format!("key {} may do {}, and this route needs {}", principal.key, principal.scopes, scope.as_str()),
        format!("Use a key with that scope; `skep key create --scope {}` makes one.", scope.as_str()),
    )
}

/// The token of the one `Authorization` header. Two of them are refused: who reads which would be a matter of luck.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
