//! Adapters for the retry vectors.

use super::Adapter;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[];
