//! What operators are answered: queries and what they may lack, health, metrics, the care of the store.

pub(crate) mod completeness;
pub(crate) mod data;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod inquiries;
pub(crate) mod planning;
pub(crate) mod queries;
pub(crate) mod status;
pub(crate) mod tables;
