//! The tests of `deploy/spinkube/`.

use std::collections::BTreeSet;

use toml::Table;

use super::{
    Value, at, has_version, is_known, list, metrics, pairs, read, shape, text, texts, yaml,
};
use crate::manifest::derived;

/// The service that operators bring themselves: this is the label of its pods, and the name of its Service.
const BETTER_AUTH: &str = "better-auth";

/// The objects of the folder.
fn objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for entry in std::fs::read_dir(super::folder().join("spinkube")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            objects.extend(yaml(&std::fs::read_to_string(path).unwrap()));
        }
    }
    assert!(objects.len() > 10, "{objects:?}");
    objects
}

fn of_kind(kind: &str) -> Vec<Value> {
    let is_of_kind = |object: &Value| object["kind"] == kind;
    objects().into_iter().filter(is_of_kind).collect()
}

fn named(kind: &str, name: &str) -> Value {
    let mut found = of_kind(kind);
    found.retain(|object| at(object, "metadata.name") == name);
    assert_eq!(found.len(), 1, "{kind} {name}");
    found.remove(0)
}

fn manifest() -> Table {
    derived("spinkube").unwrap().parse().unwrap()
}

/// The labels of all pods, each a set of pairs.
fn pods() -> Vec<Vec<(String, String)>> {
    let mut pods = vec![vec![(
        "app.kubernetes.io/name".to_owned(),
        BETTER_AUTH.to_owned(),
    )]];
    for deployment in of_kind("Deployment") {
        pods.push(pairs(at(&deployment, "spec.template.metadata.labels")));
    }
    for app in of_kind("SpinApp") {
        let name = text(at(&app, "metadata.name")).to_owned();
        pods.push(vec![("core.spinkube.dev/app-name".to_owned(), name)]);
    }
    pods
}

/// Asserts that a selector's labels are those of some pod.
fn assert_selects(selector: &Value) {
    let labels = pairs(at(selector, "matchLabels"));
    let selected = |pod: &Vec<(String, String)>| labels.iter().all(|label| pod.contains(label));
    assert!(pods().iter().any(selected), "{selector:?}");
    for expression in list(at(selector, "matchExpressions")) {
        for value in texts(&expression["values"]) {
            let label = (text(&expression["key"]).to_owned(), value);
            assert!(pods().iter().any(|pod| pod.contains(&label)), "{label:?}");
        }
    }
}

#[test]
fn each_object_has_the_fields_of_its_kind() {
    let mut names = BTreeSet::new();
    for object in objects() {
        assert_eq!(shape::errors(&object), [""; 0]);
        let (kind, name) = (text(&object["kind"]), text(at(&object, "metadata.name")));
        assert!(
            names.insert(format!("{kind} {name}")),
            "{kind} {name} twice"
        );
        if kind != "Namespace" {
            assert_eq!(at(&object, "metadata.namespace"), "loro-sync", "{name}");
        }
    }
}

#[test]
fn selectors_select_pods_and_services_lead_to_ports() {
    for deployment in of_kind("Deployment") {
        let labels = pairs(at(&deployment, "spec.template.metadata.labels"));
        for label in pairs(at(&deployment, "spec.selector.matchLabels")) {
            assert!(labels.contains(&label), "{label:?}");
        }
    }
    for kind in ["PodDisruptionBudget", "PodMonitor"] {
        of_kind(kind)
            .iter()
            .for_each(|object| assert_selects(at(object, "spec.selector")));
    }
    for policy in of_kind("NetworkPolicy") {
        assert_selects(at(&policy, "spec.podSelector"));
        for (direction, side) in [("ingress", "from"), ("egress", "to")] {
            for rule in list(&policy["spec"][direction]) {
                let peers = list(&rule[side]).iter();
                peers
                    .filter_map(|peer| peer.get("podSelector"))
                    .for_each(assert_selects);
            }
        }
    }
    for service in of_kind("Service") {
        let deployment = named("Deployment", text(at(&service, "metadata.name")));
        let labels = pairs(at(&deployment, "spec.template.metadata.labels"));
        assert_eq!(pairs(at(&service, "spec.selector")), labels);
        let ports = at(&deployment, "spec.template.spec.containers.0.ports");
        let target = at(&service, "spec.ports.0.targetPort");
        assert!(list(ports).iter().any(|port| &port["name"] == target));
    }
    for path in list(at(
        &named("Ingress", "loro-sync"),
        "spec.rules.0.http.paths",
    )) {
        let service = text(at(path, "backend.service.name"));
        if service != BETTER_AUTH {
            let service = named("Service", service);
            assert_eq!(
                at(path, "backend.service.port.name"),
                at(&service, "spec.ports.0.name")
            );
        }
    }
}

#[test]
fn the_apps_have_the_components_and_variables_of_the_manifest() {
    let manifest = manifest();
    let mut components = BTreeSet::new();
    for app in of_kind("SpinApp") {
        let own = texts(at(&app, "spec.components"));
        let mut kinds = BTreeSet::new();
        for (kind, triggers) in manifest["trigger"].as_table().unwrap() {
            let triggers = triggers.as_array().unwrap().iter();
            let mut called = triggers.map(|trigger| trigger["component"].as_str().unwrap());
            if called.any(|component| own.contains(component)) {
                kinds.insert(kind.clone());
            }
        }
        assert_eq!(kinds.len(), 1, "{own:?} have triggers of {kinds:?}");
        components.extend(own.clone());

        let given: BTreeSet<String> = list(at(&app, "spec.variables"))
            .iter()
            .map(|variable| text(&variable["name"]).to_owned())
            .collect();
        let mut read = BTreeSet::new();
        for component in own {
            let variables = &manifest["component"][&component]["variables"];
            read.extend(variables.as_table().unwrap().keys().cloned());
            let hosts = manifest["component"][&component].get("allowed_outbound_hosts");
            let hosts = hosts.and_then(|hosts| hosts.as_array());
            let hosts = hosts.into_iter().flatten();
            let names = hosts.filter_map(|host| host.as_str()?.strip_prefix("{{ "));
            read.extend(names.map(|name| name.trim_end_matches(" }}").to_owned()));
        }
        assert!(given.is_subset(&read), "{given:?} are not read");
        for needed in [
            "better_auth_origin",
            "internal_token",
            "webhook_key",
            "redis_url",
            "redis_origin",
        ] {
            assert!(given.contains(needed), "{needed} is not given");
        }
    }
    let all = manifest["component"].as_table().unwrap().keys();
    assert_eq!(components, all.cloned().collect());
    assert_eq!(
        at(&named("SpinApp", "loro-sync-events"), "spec.replicas"),
        1
    );
}

#[test]
fn each_secret_is_made_in_the_steps() {
    let steps = read("deploy/spinkube/README.md");
    let mut keys = Vec::new();
    for app in of_kind("SpinApp") {
        assert_eq!(
            at(&app, "spec.runtimeConfig.loadFromSecret"),
            "loro-sync-runtime"
        );
        let variables = list(at(&app, "spec.variables")).to_vec();
        keys.extend(
            variables
                .iter()
                .map(|one| at(one, "valueFrom.secretKeyRef").clone()),
        );
    }
    for variable in list(at(&relay(), "env")) {
        keys.push(at(variable, "valueFrom.secretKeyRef").clone());
    }
    keys.retain(|key| !key.is_null());
    assert!(keys.len() > 4);
    for key in keys {
        assert_eq!(key["name"], "loro-sync");
        let name = text(&key["key"]);
        let made = if key.get("optional").is_some() {
            format!("`{name}`")
        } else {
            format!("--from-literal={name}=")
        };
        assert!(steps.contains(&made), "{made}");
    }
    // The Spin operator expects the file to have exactly this name.
    assert!(
        steps.contains(
            "secret generic loro-sync-runtime -n loro-sync --from-file=runtime-config.toml"
        )
    );
}

/// The container of the relay.
fn relay() -> Value {
    at(
        &named("Deployment", "relay"),
        "spec.template.spec.containers.0",
    )
    .clone()
}

fn env(name: &str) -> String {
    let relay = relay();
    let mut env = list(at(&relay, "env")).iter();
    let found = env.find(|variable| variable["name"] == name);
    text(&found.unwrap_or_else(|| panic!("no {name}"))["value"]).to_owned()
}

fn seconds(name: &str) -> i64 {
    env(name).strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn the_relay_is_set_up_by_options_that_it_has() {
    for variable in list(at(&relay(), "env")) {
        let name = text(&variable["name"]);
        assert!(is_known(name), "{name}");
    }
    assert_eq!(env("RELAY_TICK"), "true");
    // Otherwise the Service `relay` adds variables that begin like the relay's.
    let deployment = named("Deployment", "relay");
    assert_eq!(
        *at(&deployment, "spec.template.spec.enableServiceLinks"),
        false
    );
    let service = named("Service", "redis");
    let redis = format!(
        "redis://redis.loro-sync.svc:{}",
        at(&service, "spec.ports.0.port").as_i64().unwrap()
    );
    assert_eq!(env("RELAY_REDIS"), redis);
    for app in of_kind("SpinApp") {
        for name in ["redis_url", "redis_origin"] {
            let mut variables = list(at(&app, "spec.variables")).iter();
            let url = variables.find(|one| one["name"] == name).unwrap();
            assert_eq!(url["value"], redis.as_str());
        }
    }
    // The operator's Service has the name of the SpinApp, and port 80.
    assert_eq!(env("RELAY_APP"), "http://loro-sync.loro-sync.svc:80");
    named("SpinApp", "loro-sync");
}

#[test]
fn the_drain_ends_before_the_pod_is_killed() {
    let pod = named("Deployment", "relay");
    let grace = at(&pod, "spec.template.spec.terminationGracePeriodSeconds");
    let before = at(&relay(), "lifecycle.preStop.sleep.seconds")
        .as_i64()
        .unwrap();
    let drain = seconds("RELAY_DRAIN_TIMEOUT") + seconds("RELAY_CLOSE_TIMEOUT") + 1;
    assert!(grace.as_i64().unwrap() >= before + drain + 5);
}

#[test]
fn the_autoscaler_knows_a_metric_and_leaves_room() {
    let autoscaler = named("HorizontalPodAutoscaler", "relay");
    let metric = at(&autoscaler, "spec.metrics.0.pods.metric.name");
    assert!(metrics().contains(text(metric)), "{metric:?}");
    let target = at(&autoscaler, "spec.metrics.0.pods.target.averageValue");
    let target: u32 = text(target).parse().unwrap();
    let most: u32 = env("RELAY_MAX_CONNECTIONS").parse().unwrap();
    assert!(target * 5 <= most * 4, "{target} of {most}");
    named(
        text(at(&autoscaler, "spec.scaleTargetRef.kind")),
        text(at(&autoscaler, "spec.scaleTargetRef.name")),
    );
    let least = at(&autoscaler, "spec.minReplicas").as_i64().unwrap();
    let budget = named("PodDisruptionBudget", "relay");
    assert!(at(&budget, "spec.maxUnavailable").as_i64().unwrap() < least);
}

#[test]
fn containers_have_no_rights_and_a_version() {
    for deployment in of_kind("Deployment") {
        let pod = at(&deployment, "spec.template.spec");
        assert_eq!(*at(pod, "securityContext.runAsNonRoot"), true);
        assert_eq!(
            at(pod, "securityContext.seccompProfile.type"),
            "RuntimeDefault"
        );
        assert_eq!(*at(pod, "automountServiceAccountToken"), false);
        for container in list(at(pod, "containers")) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(text(at(security, "capabilities.drop.0")), "ALL");
            assert!(has_version(text(&container["image"])));
            assert!(!at(container, "resources.limits.memory").is_null());
        }
    }
    for app in of_kind("SpinApp") {
        assert!(has_version(text(at(&app, "spec.image"))));
        assert!(!at(&app, "spec.resources.limits.memory").is_null());
    }
}

#[test]
fn only_relays_reach_the_app() {
    let app = "core.spinkube.dev/app-name";
    let mut policies = of_kind("NetworkPolicy");
    policies.retain(|policy| {
        texts(at(policy, "spec.policyTypes")).contains("Ingress")
            && at(policy, "spec.podSelector.matchLabels")
                .get(app)
                .is_some()
    });
    assert_eq!(policies.len(), 1);
    let from = list(at(&policies[0], "spec.ingress.0.from"));
    assert_eq!(list(at(&policies[0], "spec.ingress")).len(), 1);
    assert_eq!(from.len(), 1);
    assert_eq!(
        pairs(at(&from[0], "podSelector.matchLabels")),
        pairs(at(
            &named("Deployment", "relay"),
            "spec.template.metadata.labels"
        ))
    );
    let others = named("NetworkPolicy", "nothing-else");
    assert!(
        at(&others, "spec.podSelector")
            .as_mapping()
            .unwrap()
            .is_empty()
    );
    assert!(at(&others, "spec.ingress").is_null());
}

/// The runtime config leaves the cluster's own network open, and the network policy closes it.
#[test]
fn private_networks_are_closed_except_for_what_the_app_needs() {
    let config: Table = read("deploy/spinkube/runtime-config.toml").parse().unwrap();
    assert_eq!(
        config["sqlite_database"]["default"]["type"].as_str(),
        Some("libsql")
    );
    assert_eq!(
        config["key_value_store"]["default"]["type"].as_str(),
        Some("redis")
    );
    let blocked = config["outbound_networking"]["block_networks"].as_array();
    let blocked: Vec<&str> = blocked
        .unwrap()
        .iter()
        .map(|network| network.as_str().unwrap())
        .collect();
    assert!(blocked.contains(&"169.254.0.0/16") && !blocked.contains(&"private"));
    assert!(!blocked.contains(&"10.0.0.0/8"));
    let policy = named("NetworkPolicy", "app-to-the-outside");
    let mut blocks = list(at(&policy, "spec.egress"))
        .iter()
        .flat_map(|rule| list(&rule["to"]))
        .filter_map(|peer| peer.get("ipBlock"));
    let closed = texts(&blocks.next().unwrap()["except"]);
    assert_eq!(blocks.next(), None);
    let open = blocked
        .iter()
        .filter(|network| !network.contains(':'))
        .copied()
        .chain(["10.0.0.0/8"]);
    assert_eq!(closed, open.map(str::to_owned).collect());
}
