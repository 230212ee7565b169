//! The versions of the specification that are spoken.

use serde_json::{Map, Value, json};

use crate::error::{CniError, code};

/// A version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: with CHECK.
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0: with GC and STATUS.
    V1_1_0,
}

impl Version {
    /// All of them, the oldest first.
    pub(crate) const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// The newest.
    pub(crate) const LATEST: Self = Self::V1_1_0;

    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that a configuration or a result is of. One without `cniVersion` is of 0.1.0
    /// (libcni, pkg/version/conf.go), which is not spoken.
    ///
    /// # Errors
    /// Code 1 or 6.
    pub(crate) fn of(object: &Map<String, Value>) -> Result<Self, CniError> {
        let text = match object.get("cniVersion") {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text,
            Some(_) => {
                return Err(CniError::new(
                    code::DECODE,
                    "cannot decode the network configuration",
                    "cniVersion is no string",
                ));
            }
        };
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| {
            let given = match text {
                "" => "no cniVersion, which means 0.1.0,",
                text => text,
            };
            CniError::new(
                code::VERSION,
                "incompatible CNI version",
                format!("{given} is none of {}", Self::names().join(", ")),
            )
        })
    }

    fn names() -> [&'static str; 5] {
        Self::ALL.map(Self::as_str)
    }
}

/// The answer to VERSION, which echoes the input's `cniVersion`. An empty input is as good.
///
/// # Errors
/// Code 6 when the input is something else than a JSON object.
pub(crate) fn report(input: &[u8]) -> Result<Value, CniError> {
    let object: Map<String, Value> = match input.trim_ascii() {
        [] => Map::new(),
        text => serde_json::from_slice(text).map_err(|error| {
            CniError::new(
                code::DECODE,
                "cannot decode the standard input",
                format!("not a JSON object: {error}"),
            )
        })?,
    };
    let asked = object.get("cniVersion").and_then(Value::as_str);
    Ok(json!({
        "cniVersion": asked.unwrap_or(Version::LATEST.as_str()),
        "supportedVersions": Version::names(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Result<Version, u32> {
        let object = value.as_object().expect("an object");
        Version::of(object).map_err(|error| error.code)
    }

    #[test]
    fn each_is_read_as_it_is_written() {
        for version in Version::ALL {
            assert_eq!(of(json!({"cniVersion": version.as_str()})), Ok(version));
        }
        assert!(Version::V0_4_0 < Version::V1_0_0);
    }

    #[test]
    fn what_is_not_spoken_is_refused() {
        for text in [
            "", "0.1.0", "0.2.0", "1.2.0", "2.0.0", "1.1", "v1.0.0", "1.1.0 ",
        ] {
            assert_eq!(of(json!({"cniVersion": text})), Err(1), "{text}");
        }
        assert_eq!(of(json!({})), Err(1));
        assert_eq!(of(json!({"cniVersion": null})), Err(1));
        assert_eq!(of(json!({"cniVersion": 1.1})), Err(6));
    }

    #[test]
    fn version_echoes_what_was_asked() {
        let all = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        for (input, echo) in [
            ("{\"cniVersion\":\"0.4.0\"}", "0.4.0"),
            ("{\"cniVersion\":\"9.0.0\"}", "9.0.0"),
            ("{}", "1.1.0"),
            (" \n", "1.1.0"),
            ("", "1.1.0"),
        ] {
            let report = report(input.as_bytes()).expect(input);
            assert_eq!(report["cniVersion"], echo);
            assert_eq!(report["supportedVersions"], all);
        }
        for input in ["[]", "{", "\u{0}"] {
            assert_eq!(report(input.as_bytes()).map_err(|error| error.code), Err(6));
        }
    }
}
