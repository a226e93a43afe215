//! The tests of `deploy/compose/`.

use std::collections::BTreeSet;

use super::{Value, at, folder, has_version, is_known, list, pairs, read, text, texts, yaml};

/// The keys that a service here may have, of the Compose specification.
const KEYS: &[&str] = &[
    "build",
    "cap_add",
    "cap_drop",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "networks",
    "ports",
    "read_only",
    "restart",
    "security_opt",
    "stop_grace_period",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
];

fn compose() -> Value {
    yaml(&read("deploy/compose/compose.yaml")).remove(0)
}

fn services(compose: &Value) -> Vec<(&str, &Value)> {
    let services = compose["services"].as_mapping().unwrap().iter();
    services
        .map(|(name, service)| (text(name), service))
        .collect()
}

fn keys(of: &Value) -> BTreeSet<String> {
    let map = of.as_mapping().unwrap();
    map.keys().map(|key| text(key).to_owned()).collect()
}

#[test]
fn each_service_is_supervised_and_has_no_more_rights_than_it_needs() {
    for (name, service) in services(&compose()) {
        for key in keys(service) {
            assert!(KEYS.contains(&key.as_str()), "{name}: {key}");
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert_eq!(text(&service["cap_drop"][0]), "ALL", "{name}");
        assert_eq!(
            text(&service["security_opt"][0]),
            "no-new-privileges:true",
            "{name}"
        );
        assert_eq!(service.get("ports").is_some(), name == "caddy", "{name}");
        if let Some(image) = service.get("image") {
            assert!(has_version(text(image)), "{name}: {image:?}");
        }
        if let Some(build) = service.get("build") {
            let context = folder().join("compose").join(text(&build["context"]));
            let file = context.join(text(&build["dockerfile"]));
            assert!(file.exists(), "{}", file.display());
        }
    }
}

#[test]
fn what_a_service_names_is_declared() {
    let compose = compose();
    let (networks, volumes) = (keys(&compose["networks"]), keys(&compose["volumes"]));
    for (name, service) in services(&compose) {
        assert!(texts(&service["networks"]).is_subset(&networks), "{name}");
        for volume in list(service.get("volumes").unwrap_or(&Value::Null)) {
            let (source, _) = text(volume).split_once(':').unwrap();
            let file = folder().join("compose").join(source);
            assert!(
                volumes.contains(source) || source.starts_with("./") && file.exists(),
                "{name}: {source}"
            );
        }
        let waits = service.get("depends_on");
        let conditions = waits.and_then(Value::as_mapping).into_iter().flatten();
        for (other, condition) in conditions {
            assert_eq!(condition["condition"], "service_healthy");
            let other = &compose["services"][other];
            assert!(other.get("healthcheck").is_some(), "{name}");
        }
    }
}

#[test]
fn each_setting_is_known_and_each_placeholder_has_an_example() {
    let compose = compose();
    let given = pairs(at(&compose, "services.loro-host.environment"));
    for (name, _) in &given {
        assert!(is_known(name), "{name}");
    }
    for needed in [
        "BETTER_AUTH_ORIGIN",
        "INTERNAL_TOKEN",
        "WEBHOOK_KEY",
        "PUBLIC_URL",
    ] {
        let name = format!("SPIN_VARIABLE_{needed}");
        assert!(given.iter().any(|(given, _)| *given == name), "{name}");
    }
    let example = read("deploy/compose/example.env");
    let set: BTreeSet<&str> = example
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    let file = read("deploy/compose/compose.yaml");
    let used: BTreeSet<&str> = file
        .split("${")
        .skip(1)
        .map(|rest| rest.split([':', '}']).next().unwrap())
        .collect();
    assert_eq!(used, set);
}

#[test]
fn the_proxy_leads_to_services() {
    let compose = compose();
    let names: Vec<&str> = services(&compose)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let caddyfile = read("deploy/compose/Caddyfile");
    let targets: Vec<&str> = caddyfile
        .lines()
        .filter_map(|line| line.trim().strip_prefix("reverse_proxy "))
        .collect();
    assert_eq!(targets, ["better-auth:3000", "loro-host:8787"]);
    for target in targets {
        assert!(
            names.contains(&target.split(':').next().unwrap()),
            "{target}"
        );
    }
}
