//! `GET /assets/{id}`: results that are kept here.

use std::ops::Range;

use auth::Principal;
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply},
};
use spin_sdk::http::Method;
use tasks::{AssetStore, OCTET_STREAM};

use crate::access;

/// An asset, or a part of it (RFC 9110, section 14).
pub(crate) async fn get(
    ports: Ports<'_>,
    who: &Principal,
    id: &str,
    request: &Incoming,
) -> Result<Reply, Problem> {
    let store = AssetStore::open(ports.database, ports.http, ports.config)?;
    let asset = store.describe(id).await?.ok_or_else(Problem::not_found)?;
    access(ports, who, &asset.project_id).await?;
    let tag = format!("\"{}\"", asset.digest);
    let described = |reply: Reply| {
        reply
            .header("etag", tag.as_str())
            .header("accept-ranges", "bytes")
            // For the browser of whoever may see it, and no cache between.
            .header("cache-control", "private, max-age=31536000, immutable")
            // A picture that is opened by itself is no page: its scripts do not run.
            .header(
                "content-security-policy",
                "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            )
    };
    if request.knows(&tag) {
        return Ok(described(Reply::new(304).without_body()));
    }
    let full = |reply: Reply| {
        let reply = described(reply).media_type(&asset.media_type);
        if asset.media_type == OCTET_STREAM {
            reply.header("content-disposition", "attachment")
        } else {
            reply
        }
    };
    if request.method() == Method::Head {
        let length = asset.length.to_string();
        return Ok(full(Reply::new(200).without_body()).header("content-length", length));
    }
    // A range of something else than what is here is not wanted.
    let same = request.header("if-range").is_none_or(|given| given == tag);
    let range = request.header("range").filter(|_| same);
    let range = match range.and_then(|range| parse(&range, asset.length)) {
        Some(Ok(range)) => range,
        Some(Err(Unsatisfiable)) => {
            let words = format!("The asset has {} bytes.", asset.length);
            return Err(
                Problem::new(416, "range-not-satisfiable", "No such range", words)
                    .with_header("content-range", format!("bytes */{}", asset.length)),
            );
        }
        None => {
            let asset = store.read(id, None).await?.ok_or_else(Problem::not_found)?;
            return Ok(full(Reply::new(200)).body(asset.bytes));
        }
    };
    let told = format!("bytes {}-{}/{}", range.start, range.end - 1, asset.length);
    let part = store
        .read(id, Some(range))
        .await?
        .ok_or_else(Problem::not_found)?;
    Ok(full(Reply::new(206))
        .header("content-range", told)
        .body(part.bytes))
}

/// A range that begins behind the end.
#[derive(Debug, PartialEq)]
struct Unsatisfiable;

/// The one range that a `Range` header asks for; `None` where it asks for something else, and so for all.
fn parse(header: &str, length: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", "") => return None,
        ("", suffix) => {
            let suffix: u64 = suffix.parse().ok()?;
            length.saturating_sub(suffix)..length
        }
        (first, "") => first.parse().ok()?..length,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.start < range.end {
        Ok(range)
    } else {
        Err(Unsatisfiable)
    })
}
