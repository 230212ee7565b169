//! A runtime's call of the plugin.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shunt_cni::{Patience, serve};

use super::{NETNS, Node};

/// One call, with all that a runtime sets.
pub(crate) struct Call<'a> {
    node: &'a Node,
    variables: BTreeMap<String, OsString>,
    input: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) took: Duration,
}

impl<'a> Call<'a> {
    pub(crate) fn new(node: &'a Node, verb: &str) -> Self {
        let path = format!("relative::/nowhere:{}", node.path("bin").display());
        let variables = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", NETNS),
            ("CNI_IFNAME", "eth0"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default",
            ),
            ("CNI_PATH", &path),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into()));
        Self {
            node,
            variables: variables.into(),
            input: node.conf().to_string().into_bytes(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    pub(crate) fn of(self, container: &str) -> Self {
        self.with("CNI_CONTAINERID", container)
    }

    pub(crate) fn conf(self, conf: &Value) -> Self {
        self.input(conf.to_string())
    }

    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Executes the plugin.
    pub(crate) fn run(self) -> Answer {
        self.execute(Stdio::piped())
    }

    /// Executes the plugin with a standard output that cannot be written.
    pub(crate) fn run_unheard(self) -> Answer {
        let full = File::options().write(true).open("/dev/full");
        self.execute(full.expect("opened").into())
    }

    fn execute(self, stdout: Stdio) -> Answer {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_shunt-cni"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("FROM_THE_RUNTIME", "kept")
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A plugin that does not read all its input is fine.
        let _ = stdin.write_all(&self.input);
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        Answer {
            code: output.status.code().expect("no signal"),
            stdout: String::from_utf8(output.stdout).expect("text"),
            took: start.elapsed(),
        }
    }

    /// Carries it out in this process, with less patience than the plugin has.
    pub(crate) fn serve(self, patience: &Patience) -> Answer {
        let start = Instant::now();
        let mut stdout = Vec::new();
        let code = serve(
            &|name| self.variables.get(name).cloned(),
            &mut self.input.as_slice(),
            &mut stdout,
            patience,
        );
        assert!(self.node.path("bin").exists());
        Answer {
            code: code.into(),
            stdout: String::from_utf8(stdout).expect("text"),
            took: start.elapsed(),
        }
    }
}

impl Answer {
    /// It went well; this is the result.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stdout);
        serde_json::from_str(&self.stdout).expect("JSON and nothing else")
    }

    /// It went well and has nothing to tell.
    #[track_caller]
    pub(crate) fn is_silent(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (0, ""));
    }

    /// It failed with this code, and says so with these words.
    #[track_caller]
    pub(crate) fn fails(&self, code: u32, words: &str) -> Value {
        assert_eq!(self.code, 1, "{}", self.stdout);
        let error: Value = serde_json::from_str(&self.stdout).expect("JSON and nothing else");
        assert_eq!(error["code"], code, "{error}");
        assert!(
            error["msg"].as_str().is_some_and(|msg| !msg.is_empty()),
            "{error}"
        );
        assert!(
            error.to_string().contains(words),
            "{words:?} is not in {error}"
        );
        error
    }
}
