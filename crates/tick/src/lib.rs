//! Asks the poller to do what is due. The cron components of each WIT share this code.
//!
//! The cron trigger is a process of its own, which has only the address of the app's HTTP side. It offers WASI 0.2 and
//! Spin's variables, so this crate uses nothing else.

use platform::{
    Setting,
    self_request::{APP_URL, INTERNAL_TOKEN},
};
use wasi::http::{
    outgoing_handler,
    types::{Fields, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme},
};

use bindings::fermyon::spin::variables;

mod bindings {
    // The macro generates unsafe code.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        inline: r#"
            package loro-sync:tick;

            world tick {
                import fermyon:spin/variables@2.0.0;
            }

            package fermyon:spin@2.0.0 {
                interface variables {
                    get: func(name: string) -> result<string, error>;
                    variant error {
                        invalid-name(string), undefined(string), provider(string), other(string),
                    }
                }
            }
        "#,
        generate_all,
    });
}

/// The time that the poller may take to answer that it has begun, in nanoseconds.
const TIMEOUT: u64 = 5_000_000_000;

/// Asks the poller at `app_url`, which answers when it has begun.
///
/// # Errors
/// What went wrong, in words, if the poller did not begin.
pub fn tick() -> Result<(), String> {
    let address = read(APP_URL)?;
    let (scheme, authority) = match address.trim_end_matches('/').split_once("://") {
        Some(("http", authority)) => (Scheme::Http, authority),
        Some(("https", authority)) => (Scheme::Https, authority),
        _ => return Err("`app_url` is not an http(s) URL".into()),
    };
    let mut headers = vec![("content-length".to_owned(), b"0".to_vec())];
    let token = read(INTERNAL_TOKEN)?;
    if !token.is_empty() {
        let bearer = format!("Bearer {token}").into_bytes();
        headers.push(("authorization".to_owned(), bearer));
    }
    let headers = Fields::from_list(&headers).map_err(|error| format!("headers: {error:?}"))?;
    let request = OutgoingRequest::new(headers);
    let wrong = |()| "`app_url` is not a URL".to_owned();
    request.set_method(&Method::Post).map_err(wrong)?;
    request.set_scheme(Some(&scheme)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request
        .set_path_with_query(Some("/internal/poll"))
        .map_err(wrong)?;
    let body = request.body().map_err(wrong)?;
    let options = RequestOptions::new();
    // A host without timeouts ignores this.
    let _ = options.set_connect_timeout(Some(TIMEOUT));
    let _ = options.set_first_byte_timeout(Some(TIMEOUT));
    let failed = |error| format!("the poller cannot be asked: {error:?}");
    let answer = outgoing_handler::handle(request, Some(options)).map_err(failed)?;
    OutgoingBody::finish(body, None).map_err(failed)?;
    answer.subscribe().block();
    let answer = match answer.get() {
        Some(Ok(answer)) => answer.map_err(failed)?,
        _ => return Err("the poller gave no answer".into()),
    };
    match answer.status() {
        202 => Ok(()),
        status => Err(format!("the poller answered with status {status}")),
    }
}

fn read(setting: Setting) -> Result<String, String> {
    variables::get(setting.name()).map_err(|error| format!("`{setting}`: {error:?}"))
}
