//! A small schema of YAML: the fields that a value may and must have, from `shapes.yaml`.

use super::{Value, yaml};

/// The faults of an object, as paths and reasons.
pub(super) fn errors(object: &Value) -> Vec<String> {
    let shapes = yaml(include_str!("shapes.yaml")).remove(0);
    let part = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = format!("{} {}", part("apiVersion"), part("kind"));
    match shapes.get(kind.as_str()) {
        Some(shape) => {
            let mut errors = Vec::new();
            compare(&shapes, shape, object, &kind, &mut errors);
            errors
        }
        None => vec![format!("{kind:?} is no known kind")],
    }
}

fn compare(shapes: &Value, shape: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    match shape {
        Value::String(name) => match name.strip_prefix('=') {
            Some(other) => compare(shapes, &shapes[other], value, path, errors),
            None if is_a(name, value) => {}
            None => errors.push(format!("{path} is no {name}")),
        },
        Value::Sequence(shape) => match value.as_sequence() {
            Some(values) => {
                for (index, value) in values.iter().enumerate() {
                    compare(
                        shapes,
                        &shape[0],
                        value,
                        &format!("{path}[{index}]"),
                        errors,
                    );
                }
            }
            None => errors.push(format!("{path} is no list")),
        },
        _ => compare_fields(shapes, shape, value, path, errors),
    }
}

fn compare_fields(
    shapes: &Value,
    shape: &Value,
    value: &Value,
    path: &str,
    errors: &mut Vec<String>,
) {
    let Some(fields) = value.as_mapping() else {
        errors.push(format!("{path} is no map"));
        return;
    };
    for (name, value) in fields {
        let name = name.as_str().unwrap_or_default();
        let required = format!("{name}!");
        match shape.get(name).or_else(|| shape.get(required.as_str())) {
            Some(shape) => compare(shapes, shape, value, &format!("{path}.{name}"), errors),
            None => errors.push(format!("{path}.{name} is not known")),
        }
    }
    let names = shape.as_mapping().into_iter().flatten();
    for (name, _) in names {
        let required = name.as_str().and_then(|name| name.strip_suffix('!'));
        if required.is_some_and(|name| value.get(name).is_none()) {
            errors.push(format!(
                "{path}.{} is missing",
                required.unwrap_or_default()
            ));
        }
    }
}

fn is_a(shape: &str, value: &Value) -> bool {
    match shape {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_bool(),
        "port" => value.is_i64() || value.is_string(),
        "labels" => value
            .as_mapping()
            .is_some_and(|map| map.values().all(Value::is_string)),
        other => panic!("shapes.yaml has no {other}"),
    }
}

#[test]
fn a_wrong_object_is_found() {
    for (object, error) in [
        ("{kind: Service}", "\" Service\" is no known kind"),
        (
            "{apiVersion: v1, kind: Namespace}",
            "v1 Namespace.metadata is missing",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, nmae: b}}",
            "v1 Namespace.metadata.nmae is not known",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: 1}}",
            "v1 Namespace.metadata.name is no string",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {a: 1}}}",
            "v1 Namespace.metadata.labels is no labels",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {}, ports: {}}}",
            "v1 Service.spec.ports is no list",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {}, ports: [{port: x}]}}",
            "v1 Service.spec.ports[0].port is no integer",
        ),
    ] {
        assert_eq!(errors(&yaml(object)[0]), [error], "{object}");
    }
    let right = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}";
    assert_eq!(errors(&yaml(right)[0]), [""; 0]);
}
