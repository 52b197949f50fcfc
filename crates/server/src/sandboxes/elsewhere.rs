//! The routes of sandboxes on systems that have none: each says so.

use crate::reply::Failure;
use skep_api::ErrorCode;

macro_rules! refused {
    ($($name:ident)*) => {
        $(pub(crate) async fn $name() -> Failure {
            Failure::new(ErrorCode::Unavailable, "sandboxes need Linux, and this node runs on another system", "Run the node on Linux, or in a virtual machine with it.")
        })*
    };
}

refused!(list create show remove pause resume stop exec terminal read_file write_file remove_file folder ports snapshots snapshot remove_snapshot fork diff commit history);
