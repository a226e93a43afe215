//! The address of a result that this server keeps.
//!
//! A row and a document hold its path alone, because clients reach the server by different names and, behind a proxy,
//! below different paths. An answer or a notification has the whole address, under the name by which the caller reached
//! the server.

use platform::networks;
use serde_json::{Value, json};
use url::Url;

use crate::task::Task;

/// The path of assets.
const ASSETS: &str = "/assets/";

/// The beginning of an asset's id.
pub(crate) const ID: &str = "asset_";

/// The number of random characters in an asset's id.
pub(crate) const RANDOM: usize = 26;

/// The most characters of the ending of a film's id, after its dot.
const MAX_ENDING: usize = 4;

/// Returns whether a text begins as the path of an asset does.
pub(crate) fn begins(text: &str) -> bool {
    let id = text.strip_prefix(ASSETS);
    id.is_some_and(|id| id.starts_with(ID))
}

/// Returns whether an address may be that of an asset of this server: the beginning of such a path is in it.
pub(crate) fn may_be_in(address: &str) -> bool {
    let mut found = address.match_indices(ASSETS);
    found.any(|(at, _)| begins(&address[at..]))
}

/// The path of an asset, for a row, the parameters of a task, and a document.
pub(crate) fn path(id: &str) -> String {
    format!("{ASSETS}{id}")
}

/// The id of the asset that a path ends with.
pub(crate) fn id_in(path: &str) -> Option<&str> {
    let (_, id) = path.rsplit_once(ASSETS)?;
    let random = id.strip_prefix(ID)?;
    let (random, ending) = match random.split_once('.') {
        Some((random, ending)) => (random, Some(ending)),
        None => (random, None),
    };
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_ending = |text: &str| (1..=MAX_ENDING).contains(&text.len()) && is_word(text);
    let is_id = random.len() == RANDOM && is_word(random) && ending.is_none_or(is_ending);
    is_id.then_some(id)
}

/// Returns whether a text has the form of an asset's id.
pub fn is_asset_id(id: &str) -> bool {
    id_in(&path(id)) == Some(id)
}

/// The id of the asset that an address leads to, if the asset is certainly one of this server: the address is a path,
/// or below the server's own address, or leads to this machine or a private network. Rows of earlier releases hold such
/// addresses, under names that the server may no longer have.
pub(crate) fn own(address: &str, public_url: &str) -> Option<String> {
    if address.starts_with(ASSETS) {
        return id_in(address).map(str::to_owned);
    }
    let url = Url::parse(address).ok()?;
    let id = id_in(url.path())?;
    let is_ours =
        url.host_str().is_some_and(networks::is_private_host) || is_below(&url, public_url);
    (matches!(url.scheme(), "http" | "https") && is_ours).then(|| id.to_owned())
}

fn is_below(url: &Url, public_url: &str) -> bool {
    Url::parse(public_url).is_ok_and(|public| {
        let base = public.path().trim_end_matches('/');
        let below = url.path().strip_prefix(base);
        url.origin() == public.origin() && below.is_some_and(|path| path.starts_with(ASSETS))
    })
}

/// The whole address of a result of ours, for a caller who reaches this server at `base`.
fn whole(address: &str, base: &str) -> Option<String> {
    own(address, base).map(|id| format!("{base}{}", path(&id)))
}

impl Task {
    /// The task with the whole address of its result, for a caller who reaches this server at `base` (without a slash at
    /// its end).
    #[must_use]
    pub fn addressed(mut self, base: &str) -> Self {
        if let Some(address) = self.result_url.as_deref()
            && let Some(address) = whole(address, base)
        {
            self.result_url = Some(address);
        }
        self
    }
}

/// The data of a result with the whole addresses of the assets in it, for a caller who reaches this server at `base`.
#[must_use]
pub fn addressed_data(data: String, base: &str) -> String {
    if data.contains(ASSETS)
        && let Ok(mut data) = serde_json::from_str::<Value>(&data)
        && data.get("urls").is_some_and(Value::is_array)
    {
        for name in ["urls", "images"] {
            let urls = data.get_mut(name).and_then(Value::as_array_mut);
            for url in urls.into_iter().flatten() {
                if let Some(address) = url.as_str().and_then(|address| whole(address, base)) {
                    *url = json!(address);
                }
            }
        }
        return data.to_string();
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_whole_last_part_of_a_path() {
        let id = format!("asset_{}", "a1".repeat(RANDOM / 2));
        for (text, is_one) in [
            (id.clone(), true),
            (format!("{id}.mp4"), true),
            (format!("{id}."), false),
            (format!("{id}1"), false),
            (format!("x/assets/{id}"), false),
            ("asset_".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_asset_id(&text), is_one, "{text}");
        }
    }

    #[test]
    fn a_result_of_this_server_is_recognised() {
        let public = "https://canvas.example/base";
        let id = format!("asset_{}", "a1".repeat(RANDOM / 2));
        for (address, found) in [
            ("/assets/{id}", true),
            ("/assets/{id}.mp4", true),
            ("https://canvas.example/base/assets/{id}.webm", true),
            ("/assets/{id}.", false),
            ("/assets/{id}.mp4.mp4", false),
            ("/assets/{id}.a/b", false),
            ("https://canvas.example/base/assets/{id}", true),
            ("HTTPS://canvas.example/base/./assets/{id}", true),
            ("http://0.0.0.0:8787/assets/{id}", true),
            ("http://127.0.0.1:1/assets/{id}", true),
            ("http://[::]:8787/assets/{id}", true),
            ("http://192.168.1.5/old/assets/{id}", true),
            ("http://localhost:8787/assets/{id}", true),
            ("http://[fd00::1]:8787/assets/{id}", true),
            ("http://canvas:8787/assets/{id}", true),
            ("http://my-mac.local:8787/assets/{id}", true),
            ("https://canvas.example/assets/{id}", false),
            ("https://other.example/base/assets/{id}", false),
            ("http://127.0.0.1:1/assets/a.png", false),
            ("http://127.0.0.1:1/{id}", false),
            ("ftp://127.0.0.1/assets/{id}", false),
            ("//evil.example/assets/{id}", false),
            ("/assets/asset_", false),
            ("/assets/asset_a1", false),
            ("/assets/{id}/b", false),
            ("/assets/{id}?b", false),
            ("{id}", false),
            ("", false),
        ] {
            let address = address.replace("{id}", &id);
            let found = found.then(|| address.rsplit('/').next().unwrap());
            assert_eq!(own(&address, public).as_deref(), found, "{address}");
        }
    }

    #[test]
    fn a_caller_gets_the_address_by_which_they_came_for_results_of_ours_alone() {
        let id = format!("asset_{}", "a1".repeat(RANDOM / 2));
        let (kept, far) = (path(&id), "https://service.example/a.png");
        let base = "https://canvas.example/base";
        let whole = format!("{base}/assets/{id}");
        for (result, shown) in [
            (Some(kept.as_str()), Some(whole.as_str())),
            (Some(far), Some(far)),
            (None, None),
        ] {
            let task = Task {
                result_url: result.map(str::to_owned),
                ..Task::new(0)
            };
            assert_eq!(task.addressed(base).result_url.as_deref(), shown);
        }
        let data = |urls: [&str; 2]| json!({ "seed": 7, "urls": urls, "images": urls }).to_string();
        let addressed = addressed_data(data([&kept, far]), base);
        assert_eq!(addressed, data([&whole, far]));
        // Data without such addresses stays exactly as it is.
        for other in [
            "{ \"seed\": 7 }",
            "{\"text\": \"/assets/\"}",
            "/assets/",
            "",
        ] {
            assert_eq!(addressed_data(other.to_owned(), base), other);
        }
    }
}
