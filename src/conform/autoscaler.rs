//! Adapters for the autoscaler vectors.

use super::Adapter;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[];
