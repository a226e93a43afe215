//! Checks that `spin.toml` agrees with the code.

use door::routes;
use e2e::manifest::{imports, manifest, settings_read};
use toml::{Table, Value};

/// The HTTP triggers: routes and the components that serve them.
fn triggers(manifest: &Table) -> Vec<(String, String)> {
    let text = |trigger: &Value, key: &str| trigger[key].as_str().unwrap().to_owned();
    let http = manifest["trigger"]["http"].as_array().unwrap();
    let triggers = http.iter();
    triggers
        .map(|trigger| (text(trigger, "route"), text(trigger, "component")))
        .collect()
}

/// Returns whether a route of the manifest matches a path. `:name` matches any segment, and `...` all that follow.
fn fits(route: &str, path: &str) -> bool {
    let (mut route, mut path) = (route.split('/'), path.split('/'));
    loop {
        match (route.next(), path.next()) {
            (Some("..."), _) | (None, None) => return true,
            (Some(wanted), Some(there)) if wanted == there || wanted.starts_with(':') => {}
            _ => return false,
        }
    }
}

/// The component that Spin gives a path to: that of an exact route, else of the longest prefix.
fn component_of(triggers: &[(String, String)], path: &str) -> Option<String> {
    let fitting = triggers.iter().filter(|(route, _)| fits(route, path));
    let best = fitting.max_by_key(|(route, _)| (!route.ends_with("/..."), route.len()));
    best.map(|(_, component)| component.clone())
}

#[test]
fn the_manifest_leads_every_route_to_its_component() {
    let triggers = triggers(&manifest().unwrap());
    let mut routed = Vec::new();
    for spec in routes::ALL.iter().copied().flatten() {
        let path = spec.path.replace(['{', '}'], "");
        let component = component_of(&triggers, &path);
        assert_eq!(component.as_deref(), Some(spec.component), "{}", spec.path);
        routed.extend(triggers.iter().filter(|(route, _)| fits(route, &path)));
    }
    for trigger in &triggers {
        assert!(routed.contains(&trigger), "{trigger:?} leads to no route");
    }
}

#[test]
fn each_component_lists_the_variables_that_it_reads() {
    let manifest = manifest().unwrap();
    for (id, read) in settings_read(&manifest).unwrap() {
        let listed = manifest["component"][&id]["variables"].as_table().unwrap();
        let listed: Vec<&String> = listed.keys().collect();
        assert_eq!(listed, Vec::from_iter(&read), "{id}");
    }
}

/// The packages of WASI 0.2 that Spin offers, from 3.6 on.
const WASI: [&str; 5] = [
    "wasi:cli",
    "wasi:clocks",
    "wasi:http",
    "wasi:io",
    "wasi:random",
];

/// The interfaces of Spin 2, which every later Spin offers.
const SPIN: [&str; 5] = [
    "fermyon:spin/key-value@2.0.0",
    "fermyon:spin/redis-types",
    "fermyon:spin/redis@2.0.0",
    "fermyon:spin/sqlite@2.0.0",
    "fermyon:spin/variables@2.0.0",
];

/// The interfaces that the cron plugin offers to the component that it calls: 0.3, and 0.6.
const CRON: [&str; 2] = [
    "fermyon:spin-cron/cron-types@2.0.0",
    "spin:cron/cron-types@3.0.0",
];

#[test]
fn each_component_imports_only_what_spin_offers() {
    let mut newer = manifest().unwrap();
    let source = &mut newer["component"]["cron"]["source"];
    *source = "target/wasm32-wasip2/wasm/cron_tick_v3.wasm".into();
    let newer = imports(&newer).unwrap().remove_entry("cron");
    let all = imports(&manifest().unwrap()).unwrap();
    for (id, imports) in all.into_iter().chain(newer) {
        assert!(imports.len() > 10, "{id}: {imports:?}");
        for import in imports {
            let is_wasi = import.split_once('/').is_some_and(|(package, interface)| {
                WASI.contains(&package) && interface.contains("@0.2.")
            });
            let is_cron = id == "cron" && CRON.contains(&import.as_str());
            assert!(
                is_wasi || is_cron || SPIN.contains(&import.as_str()),
                "{id}: {import}"
            );
        }
    }
}

#[test]
fn the_relay_upgrades_routes_of_documents() {
    let reads: Vec<&str> = routes::ALL
        .iter()
        .copied()
        .flatten()
        .filter(|spec| spec.method == "GET")
        .map(|spec| spec.path)
        .collect();
    for path in relay::UPGRADES {
        assert!(reads.contains(&path), "{path}");
    }
}
