//! Reports a panic before it ends the instance.

use spin_sdk::sqlite::{Connection, Value};

/// Makes this instance run one SQL statement before it ends, if its code panics. The texts are the statement's first
/// parameters; then come the panic's message, of at most `longest` bytes, and the time in Unix seconds. An error of the
/// statement is ignored, and an instance that has no time or no memory left ends without it.
pub fn report_panics(statement: &'static str, texts: [String; 2], longest: usize) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The statement comes first, because after a panic anything else may fail.
        let message = panic
            .payload_as_str()
            .unwrap_or("a panic without a message");
        let end = message.floor_char_boundary(longest);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(0));
        let [first, second] = texts.clone();
        let parameters = [
            Value::Text(first),
            Value::Text(second),
            Value::Text(message[..end].to_owned()),
            Value::Integer(now),
        ];
        if let Ok(database) = Connection::open_default() {
            let _ = database.execute(statement, &parameters);
        }
        before(panic);
    }));
}
