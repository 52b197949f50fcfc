//! Running a snippet.

use axum::{extract::State, response::Response};
use http::StatusCode;
use skep_api::Execute;

use crate::{
    control::{Control, Json},
    convert::{executed_out, snippet_in},
    reply::{Failure, json},
};

pub(crate) async fn execute(State(control): State<Control>, Json(body): Json<Execute>) -> Result<Response, Failure> {
    let executed = control.node.execute(snippet_in(body)?).await?;
    Ok(json(StatusCode::OK, &executed_out(executed)))
}
