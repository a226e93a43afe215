//! The declaration of settings.
//!
//! A setting is declared once, by [`settings!`](crate::settings!), beside the code that reads it. `cargo xtask generate`
//! writes the variables of `spin.toml` and the table in `docs/settings.md` from the declarations. A component lists
//! exactly the variables whose names are in its compiled code.

use std::fmt;

use crate::form::{Form, WrongForm};

/// A setting of the app, to be read through [`Config`](crate::Config). On Spin it is a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting(&'static str);

impl Setting {
    /// The text before a setting's name in compiled code. A `;` follows the name.
    pub const MARK: &'static str = "setting:";

    /// Makes a setting from its marked name, as [`settings!`](crate::settings!) does. The whole text stays in the
    /// compiled code of each component that reads the setting, so that its settings can be found there.
    pub const fn marked(text: &'static str) -> Self {
        let (_, name) = text.split_at(Self::MARK.len());
        Self(name.split_at(name.len() - 1).0)
    }

    /// The name, such as `internal_token`.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The value of a setting that the operator does not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The setting has no value.
    Unset,
    /// The setting has no value, and the value that the operator sets is secret.
    Secret,
    /// The setting has this value.
    Value(&'static str),
    /// The setting has no value, but Spin gets this address, because it requires one in `allowed_outbound_hosts`. The
    /// address can never exist (RFC 2606).
    Placeholder(&'static str),
}

/// The declaration of a setting, from which its variable and its documentation are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declaration {
    /// The setting.
    pub setting: Setting,
    /// The value if the operator does not set it.
    pub preset: Preset,
    /// The form of its value.
    pub form: Form,
    /// The purpose of the setting, in Markdown.
    pub about: &'static str,
}

impl Declaration {
    /// Checks the form of a value.
    ///
    /// # Errors
    /// If the value does not have it.
    pub fn check(&self, value: &str) -> Result<(), WrongForm> {
        let Self { setting, form, .. } = *self;
        if form.fits(value) {
            Ok(())
        } else {
            Err(WrongForm { setting, form })
        }
    }
}

/// Declares settings: a constant for each, and the list `SETTINGS` of their declarations. After its preset, a setting may
/// have a [`Form`]; it is a text otherwise.
///
/// ```
/// mod painter {
///     platform::settings! {
///         /// Painter: pictures
///         pub PAINTER_BASE_URL = "painter_base_url", Value("https://painter.example"), Url;
///         /// Its API key
///         pub PAINTER_KEY = "painter_key", Secret;
///     }
/// }
/// assert_eq!(painter::PAINTER_KEY.name(), "painter_key");
/// assert_eq!(painter::SETTINGS.len(), 2);
/// ```
#[macro_export]
macro_rules! settings {
    (@form) => { $crate::Form::Text };
    (@form $form:ident $($limit:expr)?) => { $crate::Form::$form $(($limit))? };
    ($(
        $(#[doc = $about:literal])+
        $visibility:vis $constant:ident = $name:literal, $preset:ident $(($value:expr))? $(, $form:ident $(($limit:expr))?)?;
    )+) => {
        $(
            $(#[doc = $about])+
            $visibility const $constant: $crate::Setting =
                $crate::Setting::marked(concat!("setting:", $name, ";"));
        )+

        /// The declarations of these settings.
        pub(crate) const SETTINGS: &[$crate::setting::Declaration] = &[$($crate::setting::Declaration {
            setting: $constant,
            preset: $crate::setting::Preset::$preset $(($value))?,
            form: $crate::settings!(@form $($form $($limit)?)?),
            about: concat!($($about),+),
        }),+];
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    settings! {
        /// The first
        /// of two
        FIRST = "first", Value("1");
        /// The second
        SECOND = "second", Secret;
        /// The third
        THIRD = "third", Unset, Number(7);
    }

    #[test]
    fn a_declaration_has_all_of_a_setting() {
        assert_eq!(SETTINGS.len(), 3);
        let wrong = WrongForm {
            setting: THIRD,
            form: Form::Number(7),
        };
        assert_eq!(SETTINGS[2].check("8"), Err(wrong));
        assert_eq!(
            wrong.to_string(),
            "`third` is not a whole number from 1 to 7"
        );
        assert_eq!(SETTINGS[2].check("7"), Ok(()));
        assert_eq!(SETTINGS[1].form, Form::Text);
        assert_eq!(
            (FIRST.name(), SECOND.to_string()),
            ("first", "second".into())
        );
        assert_eq!(SETTINGS[0].preset, Preset::Value("1"));
        assert_eq!(SETTINGS[0].about, " The first of two");
        assert_eq!(SETTINGS[1].preset, Preset::Secret);
    }
}
