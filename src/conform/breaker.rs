//! Adapters for the breaker vectors.

use super::Adapter;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[];
