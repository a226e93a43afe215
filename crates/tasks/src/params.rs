//! The parameters of a new task. Pictures in them go to the asset store, and the parameters hold their addresses.

use std::fmt;

use problem::FieldError;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{
    asset_address,
    assets::AssetStore,
    bounded::{Bounded, Budget},
    image::{self, Image, ImageSource},
};

/// The parameters of a new task, with the pictures that came with them.
#[derive(Debug, Default)]
pub(crate) struct Params {
    /// The parameters, with the address of a picture instead of its bytes.
    pub(crate) values: Map<String, Value>,
    /// The pictures that are to be stored.
    pub(crate) pictures: Vec<Picture>,
    /// The faults of pictures.
    pub(crate) errors: Vec<FieldError>,
}

/// A picture that came with the parameters.
#[derive(Debug)]
pub(crate) struct Picture {
    /// The id that its asset gets.
    pub(crate) asset_id: String,
    pub(crate) image: Image,
}

impl Params {
    /// The value that stands for a picture, which came as this text in the field `params.{name}`.
    fn picture<E: Error>(
        &mut self,
        name: &str,
        text: &str,
        seed: ParamsSeed<'_>,
    ) -> Result<Value, E> {
        let ParamsSeed { budget, types, .. } = seed;
        // An empty field counts as missing, but an empty entry of a list is no picture.
        let source = if text.is_empty() && !name.ends_with(']') {
            Ok(ImageSource::Address(String::new()))
        } else {
            image::read(text)
        };
        let address = match source {
            Ok(ImageSource::Address(address)) => address,
            Ok(ImageSource::Inline(image))
                if types.is_some_and(|types| !types.contains(&image.media_type.as_str())) =>
            {
                let reason = wrong_type(&image.media_type, types.unwrap_or_default());
                return self.refused(name, reason, budget);
            }
            Ok(ImageSource::Inline(image)) => {
                let asset_id = AssetStore::new_id();
                let address = asset_address::path(&asset_id);
                self.pictures.push(Picture { asset_id, image });
                address
            }
            Err(reason) => return self.refused(name, reason, budget),
        };
        // The cost is more than the length, so that a list of a million empty strings is refused early.
        budget.take(address.len() + 64)?;
        Ok(Value::String(address))
    }

    /// Notes what is wrong with a picture.
    fn refused<E: Error>(
        &mut self,
        name: &str,
        reason: String,
        budget: &Budget,
    ) -> Result<Value, E> {
        self.errors
            .push(FieldError::new(format!("params.{name}"), reason));
        budget.take(64)?;
        // The value is not empty, because then the picture would count as missing.
        Ok(Value::String("?".to_owned()))
    }
}

/// The fault of a picture of this type, in words for the user.
pub(crate) fn wrong_type(media_type: &str, types: &[&str]) -> String {
    let types: Vec<&str> = types
        .iter()
        .map(|one| one.strip_prefix("image/").unwrap_or(one))
        .collect();
    format!(
        "is {media_type}, which the service does not take; send {}",
        types.join(" or ")
    )
}

/// Reads parameters: `None` for null. The fields that `pictures` names hold a picture or a list of pictures.
#[derive(Clone, Copy)]
pub(crate) struct ParamsSeed<'b> {
    pub(crate) budget: &'b Budget,
    pub(crate) pictures: &'b [&'b str],
    /// The media types that pictures may have; `None` for all.
    pub(crate) types: Option<&'b [&'b str]>,
}

impl<'de> DeserializeSeed<'de> for ParamsSeed<'_> {
    type Value = Option<Params>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ParamsSeed<'_> {
    type Value = Option<Params>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut params = Params::default();
        while let Some(key) = entries.next_key::<String>()? {
            self.budget.take(key.len())?;
            let value = if self.pictures.contains(&key.as_str()) {
                entries.next_value_seed(Pictures {
                    name: &key,
                    params: &mut params,
                    seed: self,
                })?
            } else {
                entries.next_value_seed(Bounded(self.budget))?
            };
            params.values.insert(key, value);
        }
        Ok(Some(params))
    }
}

/// Reads a picture, or a list of pictures.
struct Pictures<'p> {
    name: &'p str,
    params: &'p mut Params,
    seed: ParamsSeed<'p>,
}

impl<'de> DeserializeSeed<'de> for Pictures<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pictures<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a picture or a list of pictures")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.params.picture(self.name, text, self.seed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.seed.budget.take(2)?;
        let mut list = Vec::new();
        loop {
            let name = format!("{}[{}]", self.name, list.len());
            let item = Pictures {
                name: &name,
                params: &mut *self.params,
                seed: self.seed,
            };
            match items.next_element_seed(item)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    // Any other value is no picture, and the check of the fields refuses it.

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Bounded(self.seed.budget).visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Bounded(self.seed.budget).visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Bounded(self.seed.budget).visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Bounded(self.seed.budget).visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Bounded(self.seed.budget).visit_f64(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.seed.budget.take(2)?;
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object(Map::new()))
    }
}
