//! `GET /assets/{asset}`: results that this server stores.

use auth::Principal;
use door::{Reply, Tag};
use platform::Ports;
use problem::{Kind, Problem};
use tasks::{Asset, AssetStore, OCTET_STREAM, range};

use crate::request::{Answer, Request, access};

/// The time for which a browser may keep the redirect to a bucket: less than the time for which the address is valid.
const REDIRECT_KEPT: &str = "private, max-age=3000";

/// Finds the asset with this id, or else its copy in an imported project, to which the caller has access.
async fn find(
    ports: Ports<'_>,
    store: &AssetStore<'_>,
    caller: &Principal,
    id: &str,
) -> Result<(String, Asset), Problem> {
    let refused = match store.describe(id).await? {
        Some(asset) => match access(ports, caller, &asset.project_id).await {
            Ok(_) => return Ok((id.to_owned(), asset)),
            Err(problem) => problem,
        },
        None => Problem::not_found(),
    };
    if refused.kind() != Kind::NOT_FOUND {
        return Err(refused);
    }
    let (user, project) = match caller {
        Principal::User { id, .. } => (Some(id.as_str()), None),
        Principal::Token { project_id, .. } => (None, Some(project_id.as_str())),
        Principal::Server => (None, None),
    };
    let copy = store.copy_for(id, user, project).await?.ok_or(refused)?;
    let asset = store
        .describe(&copy)
        .await?
        .ok_or_else(Problem::not_found)?;
    access(ports, caller, &asset.project_id).await?;
    Ok((copy, asset))
}

/// Reads an asset, or a part of it (RFC 9110, section 14).
pub(crate) async fn get<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let (ports, head) = (request.ports(), request.head());
    let store = AssetStore::open(ports.database, ports.http, ports.config)?;
    let (id, asset) = find(ports, &store, &request.principal()?, id).await?;
    let id = id.as_str();
    let tag = Tag::new(&asset.digest);
    let described = |reply: Reply<'a>| {
        reply
            .header("accept-ranges", "bytes")
            // The caller's browser may keep it; a shared cache may not.
            .header("cache-control", "private, max-age=31536000, immutable")
            // A picture (SVG) that is opened on its own must not run scripts.
            .header(
                "content-security-policy",
                "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            )
    };
    if head.knows(&tag) {
        return Ok(described(Reply::not_modified(&tag)));
    }
    let full = |reply: Reply<'a>| {
        let reply = described(reply.tag(&tag)).media_type(&asset.media_type);
        if asset.media_type == OCTET_STREAM {
            reply.header("content-disposition", "attachment")
        } else {
            reply
        }
    };
    if head.is_head() {
        let length = asset.length.to_string();
        return Ok(full(Reply::empty(200)).header("content-length", length));
    }
    if let Some(address) = store.signed_address(id, &asset)? {
        return Ok(Reply::empty(307)
            .header("location", address)
            .header("cache-control", REDIRECT_KEPT)
            .header("referrer-policy", "no-referrer"));
    }
    // If `If-Range` names another version, the client needs the whole asset.
    let same = head.header("if-range").is_none_or(|given| tag.is(given));
    let range = head.header("range").filter(|_| same);
    let range = match range.and_then(|range| range::parse(range, asset.length)) {
        Some(Ok(range)) => range,
        Some(Err(range::Unsatisfiable)) => {
            let words = format!("The asset has {} bytes.", asset.length);
            return Err(Problem::new(Kind::RANGE_NOT_SATISFIABLE, words)
                .with_header("content-range", format!("bytes */{}", asset.length)));
        }
        None => {
            let asset = store.read(id, None).await?.ok_or_else(Problem::not_found)?;
            return Ok(full(Reply::new(200)).body(asset.bytes));
        }
    };
    let told = format!("bytes {}-{}/{}", range.start, range.end - 1, asset.length);
    let part = store.read(id, Some(range)).await?;
    let part = part.ok_or_else(Problem::not_found)?;
    Ok(full(Reply::new(206))
        .header("content-range", told)
        .body(part.bytes))
}
