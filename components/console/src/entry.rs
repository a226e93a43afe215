//! The HTTP trigger.

// The macro generates unsafe code around the function.
#![allow(unsafe_code)]

use platform::{problem::MEDIA_TYPE, spin::SpinConfig};
use spin_sdk::{
    http::{Request, Response},
    http_component,
};

use crate::{
    answer::{Query, answer},
    page::PAGE,
};

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
    let answer = answer(&query, PAGE);
    let mut response = Response::builder();
    response.status(answer.status);
    for (name, value) in answer.headers {
        response.header(name, value);
    }
    response.body(answer.body.into_owned()).build()
}
