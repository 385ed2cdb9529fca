//! No tasks are served on systems other than Linux.

use daemoneye_lib::proto::ipc::TaskType;

/// None.
pub(crate) const TYPES: [TaskType; 0] = [];
