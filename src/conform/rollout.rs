//! Adapters for the rollout vectors.

use super::Adapter;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[];
