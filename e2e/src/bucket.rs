//! A test double of an S3-compatible bucket: it checks the signature of each request, and keeps objects and uploads in
//! parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::Method;
use sha2::{Digest, Sha256};

use crate::host::Setup;
use crate::server::{Reply, Request, Server};
use crate::sign;

const NAME: &str = "results";
const REGION: &str = "auto";
const ACCESS_KEY: &str = "an-access-key-for-tests";
const SECRET_KEY: &str = "a-secret-key-for-tests";

/// The smallest size of a part that is not the last.
const SMALLEST_PART: usize = 5 << 20;

/// The bucket. Dropping it ends it.
pub struct Bucket {
    server: Server,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    objects: HashMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
    begun: usize,
    parts: Vec<usize>,
    hangs_at: Option<usize>,
    hung: usize,
}

impl Bucket {
    /// Starts an empty bucket.
    pub async fn start() -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let serving = kept.clone();
        let server = Server::start(move |request| {
            let reply = serve(&mut serving.lock().unwrap(), &request);
            async move { reply }
        })
        .await;
        Self { server, kept }
    }

    /// Makes the host of a set-up keep results in this bucket.
    pub fn of(&self, setup: Setup) -> Setup {
        let endpoint = format!("http://{}", self.server.address);
        [
            ("S3_BUCKET", NAME),
            ("S3_ENDPOINT", &endpoint),
            ("S3_REGION", REGION),
            ("S3_ACCESS_KEY", ACCESS_KEY),
            ("S3_SECRET_KEY", SECRET_KEY),
        ]
        .into_iter()
        .fold(setup, |setup, (name, value)| {
            setup.env(&format!("SPIN_VARIABLE_{name}"), value)
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// The address of the server, such as `127.0.0.1:1234`.
    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// Returns all objects.
    pub fn objects(&self) -> Vec<Bytes> {
        self.kept().objects.values().cloned().collect()
    }

    /// The number of uploads in parts that are neither complete nor given up.
    pub fn uploads(&self) -> usize {
        self.kept().uploads.len()
    }

    /// The numbers of the parts that arrived whole, in the order of their arrival.
    pub fn parts(&self) -> Vec<usize> {
        self.kept().parts.clone()
    }

    /// Sets the number of the part whose request is never answered; `None` if each is answered.
    pub fn hang_at(&self, part: Option<usize>) {
        self.kept().hangs_at = part;
    }

    /// The number of requests that were never answered.
    pub fn hung(&self) -> usize {
        self.kept().hung
    }
}

fn serve(kept: &mut Kept, request: &Request) -> Reply {
    if let Err(words) = check_signature(request) {
        return refused(403, words);
    }
    let query = query(request);
    let (key, part) = (request.path.clone(), query.get("partNumber"));
    match (&request.method, query.get("uploadId"), part) {
        (&Method::POST, None, None) if query.contains_key("uploads") => begin(kept),
        (&Method::PUT, Some(upload), Some(number)) => put_part(kept, upload, number, request),
        (&Method::POST, Some(upload), None) => complete(kept, key, upload, request),
        (&Method::DELETE, Some(upload), None) => match kept.uploads.remove(upload) {
            Some(_) => Reply::bytes(204, "text/plain", ""),
            None => refused(404, "NoSuchUpload"),
        },
        (&Method::PUT, None, None) => {
            kept.objects.insert(key, request.body.clone());
            Reply::bytes(200, "text/plain", "")
        }
        (&Method::DELETE, None, None) => {
            kept.objects.remove(&key);
            Reply::bytes(204, "text/plain", "")
        }
        (&Method::GET | &Method::HEAD, None, None) => match kept.objects.get(&key) {
            Some(object) => {
                let media_type = query.get("response-content-type");
                let media_type = media_type.map_or("application/octet-stream", |name| name);
                Reply::bytes(200, media_type, object.clone())
            }
            None => refused(404, "NoSuchKey"),
        },
        _ => refused(400, "InvalidRequest"),
    }
}

fn begin(kept: &mut Kept) -> Reply {
    kept.begun += 1;
    // The names of uploads at real services have such characters, too.
    let upload = format!("upload+{}==", kept.begun);
    let answer = format!(
        "<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
    );
    kept.uploads.insert(upload, BTreeMap::new());
    Reply::bytes(200, "application/xml", answer)
}

fn put_part(kept: &mut Kept, upload: &str, number: &str, request: &Request) -> Reply {
    let (Some(parts), Ok(number)) = (kept.uploads.get_mut(upload), number.parse()) else {
        return refused(404, "NoSuchUpload");
    };
    if kept.hangs_at == Some(number) {
        kept.hung += 1;
        return Reply::Hang;
    }
    kept.parts.push(number);
    parts.insert(number, request.body.clone());
    let Reply::Answer(mut answer) = Reply::bytes(200, "text/plain", "") else {
        unreachable!()
    };
    let tag = tag(&request.body).parse().unwrap();
    answer.headers_mut().insert("etag", tag);
    Reply::Answer(answer)
}

/// Completes an upload. The request must name all parts, in order and with their tags, and only the last may be small.
fn complete(kept: &mut Kept, key: String, upload: &str, request: &Request) -> Reply {
    let Some(parts) = kept.uploads.get(upload) else {
        return refused(404, "NoSuchUpload");
    };
    let part = |(number, bytes): (&usize, &Bytes)| {
        let tag = tag(bytes);
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
    };
    let named: String = parts.iter().map(part).collect();
    let named = format!("<CompleteMultipartUpload>{named}</CompleteMultipartUpload>");
    if request.body != named {
        return refused(400, "InvalidPart");
    }
    let last = parts.len();
    if parts
        .iter()
        .any(|(number, bytes)| *number != last && bytes.len() < SMALLEST_PART)
    {
        return refused(400, "EntityTooSmall");
    }
    let parts = kept.uploads.remove(upload).unwrap_or_default();
    let object: Vec<u8> = parts.into_values().flatten().collect();
    kept.objects.insert(key, object.into());
    Reply::bytes(200, "application/xml", "<CompleteMultipartUploadResult/>")
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &hex(&Sha256::digest(bytes))[..32])
}

/// Writes bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refused(status: u16, code: &str) -> Reply {
    let answer = format!("<Error><Code>{code}</Code></Error>");
    Reply::bytes(status, "application/xml", answer)
}

fn pairs(request: &Request) -> Vec<(&str, &str)> {
    let (_, query) = request.target.split_once('?').unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect()
}

fn query(request: &Request) -> HashMap<String, String> {
    let pairs = pairs(request).into_iter();
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = text_of(after.get(..2).filter(|_| *first == b'%'));
        let byte = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap()
}

fn text_of(bytes: Option<&[u8]>) -> Option<&str> {
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok())
}

/// Checks the signature in the address (AWS Signature Version 4).
fn check_signature(request: &Request) -> Result<(), &'static str> {
    let query = query(request);
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let time = text("X-Amz-Date");
    let day = time.get(..8).ok_or("the date is missing")?;
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    if text("X-Amz-Credential") != format!("{ACCESS_KEY}/{scope}") {
        return Err("InvalidAccessKeyId");
    }
    let lasts: u64 = text("X-Amz-Expires").parse().unwrap_or(0);
    if !(1..=604_800).contains(&lasts) || text("X-Amz-SignedHeaders") != "host" {
        return Err("AuthorizationQueryParametersError");
    }
    let mut signed = pairs(request);
    signed.retain(|(name, _)| *name != "X-Amz-Signature");
    signed.sort_unstable();
    let signed: Vec<String> = signed.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let canonical = format!(
        "{}\n{}\n{}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD",
        request.method,
        request.path,
        signed.join("&"),
        request.header("host")
    );
    let digest = hex(&Sha256::digest(canonical));
    let key = [day, REGION, "s3", "aws4_request"]
        .iter()
        .fold(format!("AWS4{SECRET_KEY}").into_bytes(), |key, part| {
            sign::code(&key, part.as_bytes())
        });
    let message = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    if text("X-Amz-Signature") != hex(&sign::code(&key, message.as_bytes())) {
        return Err("SignatureDoesNotMatch");
    }
    Ok(())
}
