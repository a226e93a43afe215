//! Writes the generated parts of Markdown files.

use anyhow::{Context, Result};

const END: &str = "<!-- end of what `cargo xtask generate` writes -->";

/// Puts new text between the marks of a generated part.
///
/// # Errors
/// If the file has no such part.
pub(crate) fn replace(text: &str, part: &str, new: &str) -> Result<String> {
    let begin = format!("<!-- `cargo xtask generate` writes: {part} -->\n");
    let missing = || format!("no part {part:?}");
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{begin}\n{new}\n{END}{after}"))
}

/// Makes a table of rows.
pub(crate) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&head.map(str::to_owned)).replace("|  |", "| |");
    table += &format!("{}|\n", "|---".repeat(N));
    // A bar that is not escaped would end its cell.
    rows.into_iter()
        .for_each(|row| table += &line(&row.map(|cell| cell.replace('|', "\\|"))));
    table
}
