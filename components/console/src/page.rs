//! The page's files, embedded when the component is compiled.

use crate::encoding::Encoding;

/// A file of the page, with the copies of it that the build made.
#[derive(Debug)]
pub struct File {
    /// The path, without a leading slash.
    pub path: &'static str,
    /// The media type, as `Content-Type` has it.
    pub media_type: &'static str,
    /// Says whether the content never changes, because other content gets another name.
    pub immutable: bool,
    /// The file as it is.
    pub plain: Representation,
    /// The copy in Brotli; `None` if it would hardly be smaller.
    pub brotli: Option<Representation>,
    /// The copy in gzip; `None` if it would hardly be smaller.
    pub gzip: Option<Representation>,
}

/// A copy of a file.
#[derive(Debug)]
pub struct Representation {
    /// The name in the entity tag.
    pub tag: &'static str,
    /// The content.
    pub bytes: &'static [u8],
}

/// The files of the page; empty if the page had not been built when the component was compiled.
pub static PAGE: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

impl File {
    /// The file of `page` that a URL's path names. Only the files' own names count, so no path leads elsewhere.
    pub(crate) fn find<'a>(page: &'a [File], path: &str) -> Option<&'a File> {
        let path = match path.strip_prefix('/')? {
            "" => "index.html",
            path => path,
        };
        page.iter().find(|file| file.path == path)
    }

    pub(crate) fn copy_in(&self, encoding: Encoding) -> Option<&Representation> {
        match encoding {
            Encoding::Brotli => self.brotli.as_ref(),
            Encoding::Gzip => self.gzip.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe;
    use std::path::Path;

    #[test]
    fn the_table_describes_each_file() {
        for file in PAGE {
            assert_eq!(Some(file.media_type), describe::media_type(file.path));
            assert_eq!(file.immutable, describe::is_immutable(file.path));
            for (suffix, copy) in [
                ("", Some(&file.plain)),
                (".br", file.brotli.as_ref()),
                (".gz", file.gzip.as_ref()),
            ] {
                if let Some(copy) = copy {
                    let tag = describe::tag(file.path, suffix, copy.bytes);
                    assert_eq!(copy.tag, tag);
                }
            }
        }
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/index.html");
        let has_page = File::find(PAGE, "/").is_some();
        assert_eq!(
            has_page,
            built.exists(),
            "a page that was built is in the table"
        );
    }
}
