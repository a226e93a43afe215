//! The rules for names in a manifest, which are those of Spin.

use std::collections::BTreeSet;

/// Checks an id: words of one case, with `delimiter` between them.
pub(crate) fn check_id(id: &str, delimiter: char) -> Result<(), String> {
    for word in id.split(delimiter) {
        let mut chars = word.chars();
        let Some(first) = chars.next() else {
            return Err(format!("{id:?} has an empty word"));
        };
        if !first.is_ascii_alphabetic() {
            return Err(format!("{id:?}: each word must start with a letter"));
        }
        let upper = first.is_ascii_uppercase();
        for c in chars {
            if !c.is_ascii_alphanumeric() {
                return Err(format!(
                    "{id:?}: words are letters and digits with {delimiter:?} between them"
                ));
            }
            if c.is_ascii_alphabetic() && c.is_ascii_uppercase() != upper {
                return Err(format!("{id:?}: a word is all lowercase or all uppercase"));
            }
        }
    }
    Ok(())
}

/// Checks a variable's name, which is `lower_snake_case`.
pub(crate) fn check_variable(name: &str) -> Result<(), String> {
    check_id(name, '_')?;
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!("{name:?} must be lower_snake_case"));
    }
    Ok(())
}

/// Checks the labels under `key`, each in kebab-case or snake_case.
pub(crate) fn labels(key: &str, list: Vec<String>) -> Result<BTreeSet<String>, String> {
    for label in &list {
        if check_id(label, '-').is_err() && check_id(label, '_').is_err() {
            return Err(format!("{key}: {label:?} must be kebab-case or snake_case"));
        }
    }
    Ok(list.into_iter().collect())
}
