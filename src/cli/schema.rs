//! `simlab schema`: the JSON Schema of scenario files, for editors.

use super::console::Console;
use super::{Exit, Failure};
use crate::scenario;

/// Prints the schema.
pub(super) fn schema(console: &Console) -> Result<Exit, Failure> {
    let mut text = serde_json::to_string_pretty(&scenario::json_schema())
        .map_err(|error| Failure::new(Exit::INTERNAL, format!("cannot write the schema: {error}")))?;
    text.push('\n');
    console.print(&text)?;
    Ok(Exit::OK)
}
