//! Compares each printed manifest with what its host allows.

use super::*;

const SPIN_TOML: &str = include_str!("../../../spin.toml");

/// The components that HTTP triggers call.
const HTTP: [&str; 6] = ["console", "poller", "projects", "sync", "tasks", "webhooks"];

fn printed(host: HostName) -> Table {
    derive(SPIN_TOML, host, None).unwrap().parse().unwrap()
}

fn keys(manifest: &Table, name: &str) -> Vec<String> {
    let table = manifest[name].as_table().unwrap();
    let mut keys: Vec<String> = table.keys().cloned().collect();
    keys.sort();
    keys
}

fn hosts(manifest: &Table, component: &str) -> Vec<String> {
    let hosts = manifest["component"][component].get("allowed_outbound_hosts");
    let hosts = hosts.and_then(Value::as_array).into_iter().flatten();
    hosts
        .map(|host| host.as_str().unwrap().to_owned())
        .collect()
}

fn environment(manifest: &Table) -> &str {
    let environment = &manifest["variables"]["environment"];
    environment["default"].as_str().unwrap()
}

/// Asserts what every manifest must have, on any host: each trigger has its component, each component a trigger, and
/// each variable is declared and used.
fn assert_whole(manifest: &Table) {
    let mut called: Vec<&str> = manifest["trigger"]
        .as_table()
        .unwrap()
        .values()
        .flat_map(|triggers| triggers.as_array().unwrap())
        .map(|trigger| trigger["component"].as_str().unwrap())
        .collect();
    called.sort_unstable();
    called.dedup();
    assert_eq!(called, keys(manifest, "component"));
    let mut rest = manifest.clone();
    rest.remove("variables");
    let rest = toml::to_string(&rest).unwrap();
    let mut used: Vec<&str> = rest
        .split("{{ ")
        .skip(1)
        .map(|text| text.split_once(" }}").unwrap().0)
        .collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used, keys(manifest, "variables"));
}

/// Every component that reads `redis_url` may call it if `redis_origin` is its origin, or if it is on this machine.
#[test]
fn what_reads_the_address_of_redis_may_call_it() {
    let manifest = printed(HostName::Local);
    let mut readers = 0;
    for id in keys(&manifest, "component") {
        let variables = manifest["component"][&id].get("variables");
        let reads = variables.is_some_and(|variables| variables.get("redis_url").is_some());
        readers += usize::from(reads);
        for address in [
            "{{ redis_origin }}",
            "redis://127.0.0.1:*",
            "redis://localhost:*",
        ] {
            let may = hosts(&manifest, &id).contains(&address.to_owned());
            assert_eq!(may, reads, "{id}: {address}");
        }
    }
    assert!(readers > 0);
}

#[test]
fn local_is_spin_toml_itself() {
    for cron in [None, Some(Cron::V0_3)] {
        assert_eq!(derive(SPIN_TOML, HostName::Local, cron).unwrap(), SPIN_TOML);
    }
    assert_whole(&printed(HostName::Local));
}

#[test]
fn local_without_cron_leaves_the_tick_to_the_relay() {
    let text = derive(SPIN_TOML, HostName::Local, Some(Cron::None)).unwrap();
    let manifest: Table = text.parse().unwrap();
    assert_whole(&manifest);
    assert_eq!(keys(&manifest, "trigger"), ["http", "redis"]);
    assert!(!keys(&manifest, "component").contains(&"cron".to_owned()));
    assert!(!keys(&manifest, "variables").contains(&"app_url".to_owned()));
    assert_eq!(environment(&manifest), "development");
}

/// The cron trigger calls another component, and nothing else differs.
#[test]
fn local_with_the_newer_cron_takes_its_component() {
    let text = derive(SPIN_TOML, HostName::Local, Some(Cron::V0_6)).unwrap();
    let first = text.lines().next().unwrap();
    assert!(
        first.contains("`cargo xtask manifest --for local --cron 0.6`"),
        "{first}"
    );
    let mut manifest: Table = text.parse().unwrap();
    assert_whole(&manifest);
    let cron = &manifest["component"]["cron"];
    let source = cron["source"].as_str().unwrap();
    assert_eq!(source, "target/wasm32-wasip2/wasm/cron_tick_v3.wasm");
    let command = cron["build"]["command"].as_str().unwrap();
    assert!(command.contains("--package cron-tick-v3 "), "{command}");
    assert_eq!(
        cron["build"]["watch"].to_string(),
        r#"["components/cron-tick-v3/src/**/*.rs", "crates/tick/src/**/*.rs"]"#
    );
    let original = printed(HostName::Local);
    let component = manifest["component"].get_mut("cron").unwrap();
    for key in ["source", "build"] {
        component[key] = original["component"]["cron"][key].clone();
    }
    assert_eq!(manifest, original);
}

#[test]
fn http_only_has_http_alone() {
    let manifest = printed(HostName::HttpOnly);
    assert_whole(&manifest);
    assert_eq!(keys(&manifest, "trigger"), ["http"]);
    assert!(manifest["application"].get("trigger").is_none());
    assert_eq!(keys(&manifest, "component"), HTTP);
    assert!(hosts(&manifest, "sync").contains(&"http://self".to_owned()));
    assert_eq!(environment(&manifest), "production");
}

/// The shim takes HTTP and Redis, and refuses an app with a cron trigger. Service chaining works there.
#[test]
fn spinkube_has_http_and_redis() {
    let manifest = printed(HostName::Spinkube);
    assert_whole(&manifest);
    assert_eq!(keys(&manifest, "trigger"), ["http", "redis"]);
    assert_eq!(
        manifest["application"]["trigger"]["redis"]["address"].as_str(),
        Some("{{ redis_url }}")
    );
    let mut components = HTTP.to_vec();
    components.push("events");
    components.sort_unstable();
    assert_eq!(keys(&manifest, "component"), components);
    assert!(hosts(&manifest, "sync").contains(&"http://self".to_owned()));
    assert_eq!(environment(&manifest), "production");
}

/// The manifest has HTTP alone, one database and one key-value store, and no component calls the app.
#[test]
fn fermyon_cloud_has_http_alone_and_no_call_of_itself() {
    let manifest = printed(HostName::FermyonCloud);
    assert_whole(&manifest);
    assert_eq!(keys(&manifest, "trigger"), ["http"]);
    assert!(manifest["application"].get("trigger").is_none());
    assert_eq!(keys(&manifest, "component"), HTTP);
    for id in HTTP {
        for host in hosts(&manifest, id) {
            assert!(!is_the_app(&host), "{id}: {host}");
        }
        for store in ["sqlite_databases", "key_value_stores"] {
            if let Some(names) = manifest["component"][id].get(store) {
                assert_eq!(names.to_string(), "[\"default\"]", "{id}: {store}");
            }
        }
    }
    assert!(hosts(&manifest, "poller").contains(&"https://*:*".to_owned()));
    assert_eq!(environment(&manifest), "production");
}

/// The manifest has HTTP alone, and no SQLite: every component is of the build for libSQL, and those that had a
/// database may call its server.
#[test]
fn akamai_has_http_alone_and_libsql_instead_of_sqlite() {
    let manifest = printed(HostName::Akamai);
    assert_whole(&manifest);
    assert_eq!(keys(&manifest, "trigger"), ["http"]);
    assert_eq!(keys(&manifest, "component"), HTTP);
    let original: Table = SPIN_TOML.parse().unwrap();
    for id in HTTP {
        let component = &manifest["component"][id];
        assert_eq!(component.get("sqlite_databases"), None, "{id}");
        let source = component["source"].as_str().unwrap();
        assert!(
            source.starts_with("target/hrana/wasm32-wasip2/"),
            "{id}: {source}"
        );
        let had = original["component"][id].get("sqlite_databases").is_some();
        let allowed = hosts(&manifest, id);
        assert_eq!(
            allowed.contains(&"{{ database_url }}".to_owned()),
            had,
            "{id}"
        );
        let variables = component["variables"].as_table().unwrap();
        for name in ["database_url", "database_token"] {
            assert_eq!(variables.contains_key(name), had, "{id}: {name}");
        }
    }
    let token = &manifest["variables"]["database_token"];
    assert_eq!(token["secret"].as_bool(), Some(true));
    assert_eq!(environment(&manifest), "production");
    // The other hosts keep SQLite, and know no such variable.
    for host in [
        HostName::HttpOnly,
        HostName::Spinkube,
        HostName::FermyonCloud,
    ] {
        let manifest = printed(host);
        assert!(
            manifest["component"]["sync"]
                .get("sqlite_databases")
                .is_some()
        );
        assert!(!keys(&manifest, "variables").contains(&"database_url".to_owned()));
    }
}

/// The variables have the limits of Fermyon Cloud and Akamai, and the usual values for the other hosts.
#[test]
fn the_limits_of_a_host_are_in_its_variables() {
    use HostName::{Akamai, FermyonCloud, HttpOnly, Local, Spinkube};
    let usual = ["256", "32", "300", "65536", "blocked"];
    for (host, limits) in [
        (Local, usual),
        (HttpOnly, usual),
        (Spinkube, usual),
        // 30 s, 10 MB, 1,024 keys.
        (FermyonCloud, ["128", "9", "30", "500", "open"]),
        // 30 s, 128 MiB, 10 MiB of Base64.
        (Akamai, ["128", "7", "30", "65536", "open"]),
    ] {
        let manifest = printed(host);
        let names = [
            "instance_memory_mib",
            "max_body_mib",
            "max_handler_seconds",
            "session_places",
            "private_networks",
        ];
        let defaults = names.map(|name| manifest["variables"][name]["default"].as_str().unwrap());
        assert_eq!(defaults, limits, "{host:?}");
    }
}

#[test]
fn a_cron_trigger_is_refused_if_the_host_has_none() {
    use HostName::{Akamai, FermyonCloud, HttpOnly, Spinkube};
    let hosts = [HttpOnly, Spinkube, FermyonCloud, Akamai];
    let both = [Cron::V0_3, Cron::V0_6];
    for (host, cron) in hosts.iter().flat_map(|host| both.map(|cron| (*host, cron))) {
        let refused = derive(SPIN_TOML, host, Some(cron)).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("no cron trigger"), "{host:?}: {refused}");
        assert!(refused.contains("--tick"), "{host:?}: {refused}");
    }
}

#[test]
fn the_app_is_known_in_every_form() {
    for (host, is_app) in [
        ("http://self", true),
        ("https://self", true),
        ("http://*.spin.internal", true),
        ("http://sync.spin.internal", true),
        ("self", true),
        ("http://*:*", false),
        ("http://self.example.com", false),
        ("{{ redis_origin }}", false),
    ] {
        assert_eq!(is_the_app(host), is_app, "{host}");
    }
}
