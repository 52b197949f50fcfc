//! State within turns: hostile SQL, cursors, keys, alarms, steps, bookmarks, and a model that crashes between turns. On pages and a log in memory.

#[path = "state/cursors.rs"]
mod cursors;
#[path = "state/hostile.rs"]
mod hostile;
#[path = "state/memory.rs"]
mod memory;
#[path = "state/model.rs"]
mod model;
#[path = "state/turns.rs"]
mod turns;
