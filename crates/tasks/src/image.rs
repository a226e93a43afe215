//! The images in the parameters of a task: an http(s) address, the path of a result of this server, a `data:` URL, or
//! base64.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use platform::http_client::Limits;
use url::Url;

use crate::{
    address, asset_address,
    assets::AssetError,
    executor::{Context, Failure},
    media_type,
    public_url::public_url,
};

/// The largest image, in bytes.
pub(crate) const MAX_IMAGE_BYTES: usize = 10 * 1024 * 1024;

const FETCH: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: MAX_IMAGE_BYTES,
};

/// Accepts base64 with and without padding, because agents differ in it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An image as a user sent it, checked for its form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ImageSource {
    /// The image is at this http(s) address, or is the asset of this server at this path.
    Address(String),
    /// The image came with the parameters.
    Inline(Image),
}

/// An image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Image {
    /// The media type, such as `image/png`.
    pub(crate) media_type: String,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Image {
    /// The bytes in base64.
    pub(crate) fn base64(&self) -> String {
        BASE64.encode(&self.bytes)
    }
}

/// Reads an image of a user's parameters.
///
/// # Errors
/// The fault of the image, and what to send instead, in words for the user.
pub(crate) fn read(text: &str) -> Result<ImageSource, String> {
    const WANTED: &str = "send an http(s) URL, a data: URL or base64";
    if asset_address::begins(text) {
        return Ok(ImageSource::Address(text.to_owned()));
    }
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        // An address that may be a result of this server is checked when it is needed, because the server's own
        // address is known only then.
        let may_be_own = Url::parse(text).is_ok_and(|url| asset_address::may_be_in(url.path()));
        if !may_be_own {
            address::check(text)?;
        }
        return Ok(ImageSource::Address(text.to_owned()));
    }
    let (declared, encoded) = match text.strip_prefix("data:") {
        None => (None, text),
        Some(rest) => {
            let (head, encoded) = rest.split_once(',').ok_or("is a data: URL without data")?;
            let media_type = head
                .strip_suffix(";base64")
                .ok_or_else(|| format!("is a data: URL that is not base64; {WANTED}"))?;
            let media_type = media_type.split(';').next().unwrap_or_default();
            (
                Some(media_type.to_owned()).filter(|m| !m.is_empty()),
                encoded,
            )
        }
    };
    if encoded.len() / 4 * 3 > MAX_IMAGE_BYTES + 4 {
        return Err(format!("has more than {MAX_IMAGE_BYTES} bytes"));
    }
    let encoded: String = encoded.split_ascii_whitespace().collect();
    let bytes = BASE64
        .decode(encoded)
        .map_err(|_| format!("is not an image that can be read here; {WANTED}"))?;
    let recognised = media_type::of_picture(&bytes);
    match recognised.map(str::to_owned).or(declared) {
        Some(media_type) if media_type.starts_with("image/") => {
            Ok(ImageSource::Inline(Image { media_type, bytes }))
        }
        _ => Err(format!(
            "is not a PNG, JPEG, WebP, GIF, BMP, HEIC or AVIF image; {WANTED}"
        )),
    }
}

/// The place that an address leads to.
enum Place {
    /// The result of this server with this asset id.
    Own(String),
    /// A public address.
    Public(Url),
    /// A public address that may be the result of this server with this asset id, because an agent may reach the server
    /// by any name.
    Either(String, Url),
}

fn place(text: &str, context: &Context<'_>) -> Result<Place, Failure> {
    if let Some(id) = own(text, context) {
        return Ok(Place::Own(id));
    }
    match address::check(text) {
        Ok(url) => Ok(match asset_address::id_in(url.path()) {
            Some(id) => Place::Either(id.to_owned(), url),
            None => Place::Public(url),
        }),
        Err(reason) => Err(Failure::Permanent(format!("{text} {reason}"))),
    }
}

/// The id of the asset that an address leads to, if it is a result of this server.
fn own(text: &str, context: &Context<'_>) -> Option<String> {
    asset_address::own(text, &public_url(context.config))
}

/// The address of an image for services that fetch it themselves; `None` if they cannot, because it is
/// inline or kept on this server.
///
/// # Errors
/// Permanent if the address is not public.
pub(crate) fn public_address(
    given: &ImageSource,
    context: &Context<'_>,
) -> Result<Option<String>, Failure> {
    let ImageSource::Address(text) = given else {
        return Ok(None);
    };
    Ok(match place(text, context)? {
        Place::Own(_) | Place::Either(..) => None,
        Place::Public(url) => Some(url.into()),
    })
}

/// Obtains an image: fetches it if a user sent its address. Results of this server are read from the asset
/// store; those of other projects count as missing.
///
/// # Errors
/// Permanent if the address can never lead to an image; to be retried if its server fails.
pub(crate) async fn obtain(
    given: ImageSource,
    project_id: &str,
    context: &Context<'_>,
) -> Result<Image, Failure> {
    let text = match given {
        ImageSource::Inline(image) => return Ok(image),
        ImageSource::Address(text) => text,
    };
    match place(&text, context)? {
        Place::Own(id) => kept(&text, &id, project_id, context).await,
        Place::Public(url) => fetched(&url, context).await,
        Place::Either(id, url) => match kept(&text, &id, project_id, context).await {
            Err(Failure::Permanent(_)) => fetched(&url, context).await,
            found => found,
        },
    }
}

async fn kept(
    url: &str,
    id: &str,
    project_id: &str,
    context: &Context<'_>,
) -> Result<Image, Failure> {
    let missing = || Failure::Permanent(format!("{url} does not exist"));
    let failed = |error: AssetError| Failure::retry(format!("{url}: {error}"));
    let found = context.assets.describe_in(project_id, id).await;
    let (id, asset) = found.map_err(failed)?.ok_or_else(missing)?;
    // A film in a bucket may be larger than memory.
    if asset.length > MAX_IMAGE_BYTES as u64 {
        let words = format!("{url} has more than {MAX_IMAGE_BYTES} bytes");
        return Err(Failure::Permanent(words));
    }
    let asset = context.assets.read(&id, None).await.map_err(failed)?;
    let asset = asset.ok_or_else(missing)?;
    Ok(Image {
        media_type: asset.media_type,
        bytes: asset.bytes,
    })
}

async fn fetched(url: &Url, context: &Context<'_>) -> Result<Image, Failure> {
    let request = http::Request::get(url.as_str())
        .header("accept", "image/*")
        .body(Vec::new())
        .map_err(|_| Failure::permanent(format!("{url} is not a URL")))?;
    let answer = context
        .http
        .send(request, FETCH)
        .await
        .map_err(|error| match error {
            platform::HttpError::TooLarge => {
                Failure::permanent(format!("{url} has more than {MAX_IMAGE_BYTES} bytes"))
            }
            // The sentence is the same for every cause, because the cause would reveal to a user which hosts exist in
            // networks that only this server can reach.
            error => {
                tracing::warn!(host = url.host_str(), %error, "a picture was not fetched");
                Failure::retry(format!("{url} cannot be fetched"))
            }
        })?;
    let status = answer.status();
    if !status.is_success() {
        // Redirects are not followed, because they could lead to an address that is not public.
        let reason = format!("{url} answers with status {}", status.as_u16());
        return Err(match status.as_u16() {
            408 | 425 | 429 | 500.. => Failure::retry(reason),
            _ => Failure::Permanent(reason),
        });
    }
    let bytes = answer.into_body();
    match media_type::of_picture(&bytes) {
        Some(media_type) => Ok(Image {
            media_type: media_type.to_owned(),
            bytes,
        }),
        None => Err(Failure::Permanent(format!("{url} is not an image"))),
    }
}

#[cfg(test)]
mod tests;
