//! Checks the words of the comments in the code: documentation says what a thing is or does, and a comment names its
//! actors.

use crate::steps::{output, program, root};

/// The words that begin a question. Documentation begins with a verb, or with an article and a noun.
const QUESTIONS: &[&str] = &[
    "How", "What", "When", "Where", "Whether", "Who", "Whose", "Why",
];

/// The words that name no actor. A comment can always name the actor: a user, a client, a relay, the app, a caller.
const NAMELESS: &[&str] = &[
    "anybody", "he", "him", "himself", "his", "nobody", "somebody", "whoever",
];

/// The signs that begin documentation in Rust, TypeScript and Python.
const DOCUMENTATION: &[&str] = &["///", "//!", "/**", "\"\"\""];

/// The other signs that begin a line of a comment.
const OTHERS: &[&str] = &["//", "/*", "*", "#"];

/// Takes a line of a comment apart: the sign that begins it, and its text. Both are empty for a line of code.
fn comment(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    let mut signs = DOCUMENTATION.iter().chain(OTHERS);
    let sign = signs.find(|sign| line.starts_with(**sign));
    sign.map_or(("", ""), |sign| (*sign, line[sign.len()..].trim_start()))
}

/// Splits a text into its words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}

/// Lists the comments of a file that break a rule, each as the number of its line and the word. `count` counts
/// the comments that are documentation.
fn wrong<'a>(code: &'a str, count: &mut usize) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut above = ("", "");
    for (line, number) in code.lines().zip(1..) {
        let (sign, text) = comment(line);
        let is_first = DOCUMENTATION.contains(&sign) && above.0 != sign;
        // The first line of a longer comment in TypeScript is empty.
        if is_first && !text.is_empty() || above == ("/**", "") {
            *count += 1;
            let word = words(text).next();
            found.extend(
                word.filter(|word| QUESTIONS.contains(word))
                    .map(|word| (number, word)),
            );
        }
        let nameless = words(text).filter(|word| NAMELESS.contains(&word.to_lowercase().as_str()));
        found.extend(nameless.map(|word| (number, word)));
        above = (sign, text);
    }
    found
}

#[test]
fn documentation_asks_no_question_and_comments_name_their_actors() {
    let mut list = program(
        "git",
        &["ls-files", "*.rs", "*.ts", "*.js", "*.mjs", "*.py"],
    );
    let (mut count, mut found) = (0, Vec::new());
    for file in output(&mut list).unwrap().lines() {
        let code = std::fs::read_to_string(root().join(file)).unwrap();
        let wrong = wrong(&code, &mut count).into_iter();
        found.extend(wrong.map(|(line, word)| format!("{file}:{line} says {word:?}")));
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(count > 5000, "{count}");
}

#[test]
fn the_first_word_of_documentation_is_found() {
    let code = [
        "//! Where it is.",
        "/// A place,",
        "/// What else.",
        "let what = 1; // He.",
        "    /**",
        "     * How.",
        "     */",
        "# Nobody asks.",
        "// What nobody asks.",
        "\"\"\"Why, then.\"\"\"",
    ];
    let mut count = 0;
    let found = [
        (1, "Where"),
        (6, "How"),
        (8, "Nobody"),
        (9, "nobody"),
        (10, "Why"),
    ];
    assert_eq!(wrong(&code.join("\n"), &mut count), found);
    assert_eq!(count, 4);
}
