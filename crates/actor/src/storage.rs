//! What a guest may do within a turn to the state that lasts.

/// Everything of one actor that a turn reads and changes.
#[derive(Debug)]
pub struct Storage {}
