//! The calls that a guest makes: `fermyon:spin/variables@2.0.0`.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

use wit::fermyon::spin::variables;

mod wit {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin@2.0.0;

            interface variables {
                get: func(name: string) -> result<string, error>;
                variant error { invalid-name(string), undefined(string), provider(string), other(string) }
            }

            world calls { import variables; }
        "#,
        imports: { default: async },
        require_store_data_send: true,
    });
}

/// The variables that one component may read.
pub(crate) struct Grant {
    /// The component's id.
    pub(crate) component: String,
    /// The component's own variables by name.
    pub(crate) values: BTreeMap<String, String>,
}

/// The calls of one instance.
pub(crate) struct Calls {
    grant: Arc<Grant>,
}

/// Adds the calls to a linker; `calls` finds those of an instance.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    calls: fn(&mut T) -> &mut Calls,
) -> wasmtime::Result<()> {
    variables::add_to_linker::<T, HasSelf<Calls>>(linker, calls)
}

impl Calls {
    /// The calls of a new instance.
    pub(crate) fn new(grant: &Arc<Grant>) -> Self {
        Self {
            grant: Arc::clone(grant),
        }
    }
}

impl variables::Host for Calls {
    async fn get(&mut self, name: String) -> Result<String, variables::Error> {
        if let Some(value) = self.grant.values.get(&name) {
            return Ok(value.clone());
        }
        let bad = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if name.is_empty() || name.contains(bad) {
            return Err(variables::Error::InvalidName(name));
        }
        Err(variables::Error::Undefined(format!(
            "component {:?} has no variable {name:?}",
            self.grant.component
        )))
    }
}
