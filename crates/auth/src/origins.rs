//! The pages that may use the credentials of their visitors.
//!
//! A browser sends cookies with the requests of every page, and names the page's origin. The server's own origin is
//! allowed, and those in `allowed_origins`.

use platform::{Config, Form, UnreadableSetting, WrongForm, config::PUBLIC_URL};
use url::{Host, Url};

use crate::Advice;

platform::settings! {
    /// The origins, separated by commas, whose pages may use their visitors' cookies, such as `http://localhost:5173`.
    /// The server's own origin (`public_url`, or the name under which the client reached the relay) always may. In
    /// development without sessions, the server also answers under the names of these origins
    pub(crate) ALLOWED_ORIGINS = "allowed_origins", Unset, Origins;
}

/// Finds one of the settings `public_url` and `allowed_origins` that has the wrong form. Such a setting would keep
/// every page out.
///
/// # Errors
/// If one cannot be read.
pub fn wrong_setting(config: &dyn Config) -> Result<Option<WrongForm>, UnreadableSetting> {
    for (setting, form) in [(PUBLIC_URL, Form::Url), (ALLOWED_ORIGINS, Form::Origins)] {
        if config
            .read(setting)?
            .is_some_and(|value| !form.fits(&value))
        {
            return Ok(Some(WrongForm { setting, form }));
        }
    }
    Ok(None)
}

/// The page that sends a request, as the headers `Origin`, `Sec-Fetch-Site` and `Host` describe it.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The page's origin; `None` if the client is not a browser, or if every page may send the request.
    pub origin: Option<String>,
    /// The relation of the page's origin to ours, in the browser's words (`Sec-Fetch-Site`).
    pub site: Option<String>,
    /// The name under which the client reached us, as the relay or a proxy before it reports.
    pub host: Option<String>,
    /// The same name from the request itself, which a page cannot choose.
    pub reached: Option<String>,
}

impl Page {
    /// Returns whether a page sends the request at all.
    pub fn is_one(&self) -> bool {
        self.origin.is_some() || self.site.as_deref().is_some_and(|site| site != "none")
    }

    /// Returns whether this page may use its visitor's cookies. Clients other than browsers always may.
    pub fn may_act(&self, config: &dyn Config) -> bool {
        match &self.origin {
            Some(origin) => self.is_allowed(config, origin),
            None => self.site.as_deref() != Some("cross-site"),
        }
    }

    /// The setting that would let the page in, if it is refused; `None` if its origin cannot be named in a setting.
    pub fn refused_origin(&self, config: &dyn Config) -> Option<Advice> {
        let origin = self.origin.as_deref()?;
        let url = Url::parse(origin).ok()?;
        let is_refused = url.origin().is_tuple() && !self.is_allowed(config, origin);
        let origin = is_refused.then(|| url.origin().ascii_serialization())?;
        Advice::to_allow(origin, config)
    }

    /// The headers that let the page read an answer (CORS); none if it may not. In development every page may read a
    /// refusal, because its developer needs to know what lets it in.
    pub fn cors(&self, config: &dyn Config, is_refusal: bool) -> Vec<(&'static str, String)> {
        let may_read = |origin: &str| {
            self.is_allowed(config, origin) || (is_refusal && config.is_development())
        };
        match &self.origin {
            Some(origin) if may_read(origin) => vec![
                ("access-control-allow-origin", origin.clone()),
                ("access-control-allow-credentials", "true".into()),
                (
                    "access-control-expose-headers",
                    "ETag, Location, Preference-Applied, Retry-After, X-Loro-Rev".into(),
                ),
            ],
            _ => Vec::new(),
        }
    }

    /// The headers of an answer to a preflight; none if the page may not send the request. In development every page
    /// may, so that it can read the refusal.
    pub fn preflight(&self, config: &dyn Config, methods: &str) -> Vec<(&'static str, String)> {
        let mut headers = self.cors(config, true);
        if headers.is_empty() {
            return headers;
        }
        headers.extend([
            ("access-control-allow-methods", methods.to_owned()),
            (
                "access-control-allow-headers",
                "Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, Range"
                    .into(),
            ),
            ("access-control-max-age", "600".into()),
        ]);
        headers
    }

    /// Returns whether the page may be on a foreign name that was pointed at this server (DNS rebinding). Its browser
    /// takes such a page for one of ours; in a development without sessions, it could then read everything. IP addresses
    /// and names without a dot cannot be rebound.
    pub fn may_be_rebound(&self, config: &dyn Config) -> bool {
        self.foreign_host(config).is_some()
    }

    /// The address of the foreign name, as a setting would name it; empty if the name cannot be read, and `None` if no
    /// name is foreign.
    pub fn foreign_host(&self, config: &dyn Config) -> Option<String> {
        let mut names = [&self.host, &self.reached].into_iter().flatten();
        let name = names.find(|host| is_foreign(config, host))?;
        let scheme = self
            .origin
            .as_deref()
            .and_then(|origin| origin.split_once("://"));
        let scheme = scheme
            .map(|(scheme, _)| scheme)
            .filter(|scheme| *scheme == "https");
        let url = Url::parse(&format!("{}://{name}", scheme.unwrap_or("http")));
        Some(
            url.map(|url| url.origin().ascii_serialization())
                .unwrap_or_default(),
        )
    }

    fn is_allowed(&self, config: &dyn Config, origin: &str) -> bool {
        let Ok(url) = Url::parse(origin) else {
            return false;
        };
        let listed = config.get(ALLOWED_ORIGINS).unwrap_or_default();
        let listed = listed.split(',').map(str::trim);
        let public = config.get(PUBLIC_URL).unwrap_or_default();
        if listed
            .chain([public.as_str()])
            .filter_map(|allowed| Url::parse(allowed).ok())
            .any(|allowed| allowed.origin() == url.origin() && url.origin().is_tuple())
        {
            return true;
        }
        self.is_own(config, &url)
    }

    /// Returns whether the page is one of ours: its origin has the name under which the client reached us.
    fn is_own(&self, config: &dyn Config, origin: &Url) -> bool {
        let Some(host) = &self.host else {
            return false;
        };
        // If users come by https, a page that was loaded without it is not ours.
        let Ok(public) = config.read(PUBLIC_URL) else {
            return false;
        };
        let public = public.and_then(|url| Url::parse(&url).ok());
        if public.is_some_and(|url| url.scheme() == "https" && url.host() == origin.host()) {
            return false;
        }
        let here = Url::parse(&format!("{}://{host}", origin.scheme()));
        matches!(origin.scheme(), "http" | "https")
            && here.is_ok_and(|here| here.origin() == origin.origin())
    }
}

/// Returns whether a name can have been pointed at this server by a stranger.
fn is_foreign(config: &dyn Config, host: &str) -> bool {
    let Ok(here) = Url::parse(&format!("http://{host}")) else {
        return !host.is_empty();
    };
    let Some(Host::Domain(name)) = here.host() else {
        return false;
    };
    let local = [".localhost", ".local", ".internal"];
    let settings =
        [PUBLIC_URL, ALLOWED_ORIGINS].map(|setting| config.get(setting).unwrap_or_default());
    let named = settings.iter().flat_map(|urls| urls.split(','));
    let mut named = named.filter_map(|url| Url::parse(url.trim()).ok());
    name.contains('.')
        && !local.iter().any(|end| name.ends_with(end))
        && !named.any(|url| url.host_str() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn a_setting_of_the_wrong_form_is_found() {
        for (settings, wrong) in [
            (&[][..], None),
            (&[("public_url", "https://a.example/canvas")], None),
            (&[("public_url", "a.example")], Some("public_url")),
            (&[("allowed_origins", "https://a.example")], None),
            (
                &[("allowed_origins", "https://a.example/b")],
                Some("allowed_origins"),
            ),
        ] {
            let found = wrong_setting(&MapConfig::from_pairs(settings)).unwrap();
            let found = found.map(|found| found.setting.name());
            assert_eq!(found, wrong, "{settings:?}");
        }
        let unreadable = MapConfig::default().with_unreadable("public_url");
        assert!(wrong_setting(&unreadable).is_err());
    }

    #[test]
    fn only_the_own_origin_and_those_listed() {
        let development = MapConfig::from_pairs(&[("public_url", "http://127.0.0.1:8787")]);
        let production = MapConfig::from_pairs(&[
            ("environment", "production"),
            ("public_url", "https://canvas.example"),
            (
                "allowed_origins",
                "https://app.example, http://localhost:5173",
            ),
        ]);
        let own = "canvas.internal:8080";
        for (config, origin, host, allowed) in [
            (
                &development,
                "http://127.0.0.1:8787",
                "127.0.0.1:8787",
                true,
            ),
            (
                &development,
                "http://localhost:8787",
                "localhost:8787",
                true,
            ),
            (
                &development,
                "http://192.168.1.5:8787",
                "192.168.1.5:8787",
                true,
            ),
            (
                &development,
                "http://localhost:5173",
                "127.0.0.1:8787",
                false,
            ),
            (
                &development,
                "https://evil.example",
                "127.0.0.1:8787",
                false,
            ),
            (
                &development,
                "http://127.0.0.1:3000",
                "127.0.0.1:3000",
                true,
            ),
            (&development, "null", "127.0.0.1:8787", false),
            (&production, "https://canvas.example", own, true),
            (&production, "https://app.example", own, true),
            (&production, "http://localhost:5173", own, true),
            (&production, "http://canvas.internal:8080", own, true),
            (&production, "http://canvas.internal", own, false),
            (&production, "http://app.example", own, false),
            // Users come by https, so this page may have been put there by a stranger on the way.
            (
                &production,
                "http://canvas.example",
                "canvas.example",
                false,
            ),
            (&production, "https://app.example.evil", own, false),
            (&production, "https://app.example:444", own, false),
            (&production, "null", own, false),
            (&production, "", own, false),
            (&production, "file://canvas.internal:8080", own, false),
        ] {
            let page = Page {
                origin: Some(origin.into()),
                site: None,
                host: Some(host.into()),
                reached: None,
            };
            assert_eq!(page.may_act(config), allowed, "{origin} at {host}");
            let readable = |is_refusal| !page.cors(config, is_refusal).is_empty();
            assert_eq!(readable(false), allowed, "{origin} at {host}");
            let in_development = config.is_development();
            assert_eq!(
                readable(true),
                allowed || in_development,
                "{origin} at {host}"
            );
        }
    }

    #[test]
    fn a_preflight_lists_what_the_page_may_send() {
        let deployment = MapConfig::from_pairs(&[
            ("environment", "production"),
            ("allowed_origins", "https://app.example"),
        ]);
        let page = |origin: &str| Page {
            origin: Some(origin.into()),
            ..Page::default()
        };
        let allowed = page("https://app.example").preflight(&deployment, "GET, POST");
        let header = |name| allowed.iter().find(|(known, _)| *known == name);
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(header(name), Some(&(name, value.to_owned())));
        }
        let foreign = page("https://evil.example");
        assert!(foreign.preflight(&deployment, "GET").is_empty());
        // In development it may ask, to read why it is refused.
        assert!(!foreign.preflight(&MapConfig::default(), "GET").is_empty());
    }

    #[test]
    fn while_the_public_address_cannot_be_read_no_page_is_of_our_own() {
        let config = MapConfig::default().with_unreadable("public_url");
        let page = Page {
            origin: Some("http://canvas.example".into()),
            host: Some("canvas.example".into()),
            ..Page::default()
        };
        assert!(page.may_act(&MapConfig::default()));
        assert!(!page.may_act(&config));
    }

    #[test]
    fn a_rebound_name_is_recognised() {
        let config = MapConfig::from_pairs(&[
            ("public_url", "https://canvas.example"),
            (
                "allowed_origins",
                "https://app.example, https://other.example",
            ),
        ]);
        for (host, rebound) in [
            ("127.0.0.1:8787", false),
            ("[::1]:8787", false),
            ("192.168.1.5", false),
            ("localhost:8787", false),
            ("relay:8787", false),
            ("my-mac.local:8787", false),
            ("canvas.example", false),
            ("other.example", false),
            ("evil.example:8787", true),
            ("evil.example.:8787", true),
            ("evil.example:x", true),
        ] {
            let page = Page {
                host: Some(host.into()),
                ..Page::default()
            };
            assert_eq!(page.may_be_rebound(&config), rebound, "{host}");
        }
        assert!(!Page::default().may_be_rebound(&config));
        // A page can choose the name that a proxy reports, but not the one in the request itself.
        let page = Page {
            host: Some("127.0.0.1".into()),
            reached: Some("evil.example:3000".into()),
            ..Page::default()
        };
        assert_eq!(
            page.foreign_host(&config).as_deref(),
            Some("http://evil.example:3000")
        );
    }

    #[test]
    fn a_refusal_names_what_lets_the_page_in() {
        let config = MapConfig::default();
        let page = |origin: &str, host: &str| Page {
            origin: Some(origin.into()),
            host: Some(host.into()),
            ..Page::default()
        };
        for (origin, refused) in [
            ("http://localhost:5173", Some("http://localhost:5173")),
            ("HTTPS://App.example:443/", Some("https://app.example")),
            ("http://127.0.0.1:8787", None),
            ("http://0.0.0.0:5173", None),
            ("null", None),
            ("nonsense", None),
        ] {
            let found = page(origin, "127.0.0.1:8787").refused_origin(&config);
            let found = found.map(|advice| advice.address);
            assert_eq!(found.as_deref(), refused, "{origin}");
        }
        for (origin, host, address) in [
            (
                "https://a.tunnel.example",
                "a.tunnel.example",
                "https://a.tunnel.example",
            ),
            ("http://box.lan:8787", "box.lan:8787", "http://box.lan:8787"),
            ("http://box.lan:8787", "box.lan:x", ""),
        ] {
            let found = page(origin, host).foreign_host(&config);
            assert_eq!(found.as_deref(), Some(address), "{origin} at {host}");
        }
    }

    #[test]
    fn a_client_that_is_no_browser_may_act() {
        let config = MapConfig::default();
        let page = |site: Option<&str>| Page {
            site: site.map(str::to_owned),
            ..Page::default()
        };
        assert!(page(None).may_act(&config));
        assert!(page(Some("same-origin")).may_act(&config));
        assert!(!page(Some("cross-site")).may_act(&config));
        assert!(page(None).cors(&config, true).is_empty());
    }
}
