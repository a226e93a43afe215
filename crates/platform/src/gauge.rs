//! The app's numbers for operators.

/// A number of the app, one for each set of labels, in the text format of Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    name: &'static str,
    help: &'static str,
    samples: Vec<(Vec<(&'static str, String)>, u64)>,
}

impl Gauge {
    /// A gauge without samples. `help` is a sentence of one line.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            samples: Vec::new(),
        }
    }

    /// Adds a sample without labels.
    #[must_use]
    pub fn value(mut self, value: u64) -> Self {
        self.samples.push((Vec::new(), value));
        self
    }

    /// Adds a sample with these labels.
    pub fn add(&mut self, labels: &[(&'static str, &str)], value: u64) {
        let labels = labels.iter().map(|(name, of)| (*name, (*of).to_owned()));
        self.samples.push((labels.collect(), value));
    }

    /// Renders the gauge.
    pub fn render(&self) -> String {
        let Self { name, help, .. } = self;
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        for (labels, value) in &self.samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            text += &match labels.as_slice() {
                [] => format!("{name} {value}\n"),
                labels => format!("{name}{{{}}} {value}\n", labels.join(",")),
            };
        }
        text
    }
}

fn escaped(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    escaped.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_rendered_with_its_labels() {
        let one = Gauge::new("app_one", "One.").value(7);
        assert_eq!(
            one.render(),
            "# HELP app_one One.\n# TYPE app_one gauge\napp_one 7\n"
        );
        let mut more = Gauge::new("app_more", "More.");
        more.add(&[("state", "pending"), ("service", "a\"\\\nb")], 1);
        assert!(
            more.render()
                .ends_with("\napp_more{state=\"pending\",service=\"a\\\"\\\\\\nb\"} 1\n"),
            "{}",
            more.render()
        );
    }
}
