//! The trigger: a request comes in, an answer goes out.

// What the macro makes around the function is unsafe code.
#![allow(unsafe_code)]

use std::{fs, io};

use platform::{problem::MEDIA_TYPE, spin::SpinConfig};
use spin_sdk::{
    http::{Request, Response},
    http_component,
};

use crate::answer::{Query, answer};

#[http_component]
fn handle(request: Request) -> Response {
    if let Err(problem) = auth::readiness::check(&SpinConfig) {
        return Response::builder()
            .status(problem.status())
            .header("content-type", MEDIA_TYPE)
            .body(problem.body().to_string())
            .build();
    }
    let header = |name: &str| request.header(name).and_then(|value| value.as_str());
    let method = request.method().to_string();
    let query = Query {
        method: &method,
        path: request.path(),
        accept_encoding: header("accept-encoding"),
        if_none_match: header("if-none-match"),
    };
    let answer = answer(&query, &read);
    let mut response = Response::builder();
    response.status(answer.status);
    for (name, value) in answer.headers {
        response.header(name, value);
    }
    response.body(answer.body).build()
}

/// Reads a file of the page; `None` if there is no such file.
fn read(file: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(format!("/{file}")) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            eprintln!("cannot read {file}: {error}");
            Err(error)
        }
    }
}
