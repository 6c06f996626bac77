//! Adapters for the limiter vectors.

use super::Adapter;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[];
