//! What a container runtime does with a network: libcni's part.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Invocation, Network, Outcome, Plugins};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A container's attachment to a network, as a runtime describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The path of its network namespace; empty when there is none (any more).
    pub netns: String,
    /// The interface in it.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// What the runtime has for plugins that declare the capability.
    pub offers: Map<String, Value>,
}

impl Container {
    /// A container with an id of 64 hexadecimal digits and an interface `eth0`.
    pub fn new(netns: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}{number:08x}", std::process::id());
        Self {
            id: id.repeat(4),
            netns: netns.to_owned(),
            ifname: "eth0".to_owned(),
            args: String::new(),
            offers: Map::new(),
        }
    }

    /// As the kubelet's containerd names it.
    #[must_use]
    pub fn of_pod(mut self, namespace: &str, name: &str) -> Self {
        self.args = format!(
            "K8S_POD_NAME={name};K8S_POD_UID=11111111-2222-3333-4444-555555555555;IgnoreUnknown=1;\
             K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_NAMESPACE={namespace}",
            self.id
        );
        self
    }

    /// With something for a capability.
    #[must_use]
    pub fn offer(mut self, capability: &str, value: impl Into<Value>) -> Self {
        self.offers.insert(capability.to_owned(), value.into());
        self
    }

    /// The same container when its namespace is gone.
    #[must_use]
    pub fn without_netns(mut self) -> Self {
        self.netns.clear();
        self
    }
}

/// A runtime on a node, with one network.
#[derive(Debug, Clone)]
pub struct Runtime {
    node: String,
    plugins: Plugins,
    network: Network,
    /// Results of ADD, by id and interface, as libcni keeps them for CHECK and DEL.
    cache: Arc<Mutex<BTreeMap<(String, String), Value>>>,
}

impl Runtime {
    /// A runtime in the network namespace at path `node`.
    pub fn new(node: &str, plugins: Plugins, network: Network) -> Self {
        Self {
            node: node.to_owned(),
            plugins,
            network,
            cache: Arc::default(),
        }
    }

    /// The same runtime, and what it remembers, with its network changed.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(Network) -> Network) -> Self {
        Self {
            network: change(self.network.clone()),
            ..self.clone()
        }
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its plugins.
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// The path of the node's network namespace.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What executing plugin number `index` for a container takes: change it, then
    /// [`Runtime::execute`] it.
    ///
    /// # Errors
    /// When there is no such plugin.
    pub fn invocation(
        &self,
        verb: &str,
        index: usize,
        container: &Container,
        previous: Option<&Value>,
    ) -> Result<Invocation> {
        let plugin = self.network.plugins.get(index).context("no such plugin")?;
        let mut config = self.network.execution(plugin, &container.offers);
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        let call = self
            .bare(verb, index, config)?
            .with("CNI_CONTAINERID", &container.id)
            .with("CNI_NETNS", &container.netns)
            .with("CNI_IFNAME", &container.ifname)
            .with("CNI_ARGS", &container.args);
        Ok(call)
    }

    fn bare(&self, verb: &str, index: usize, config: Map<String, Value>) -> Result<Invocation> {
        let plugin = self.network.plugins.get(index).context("no such plugin")?;
        let kind = plugin["type"].as_str().context("a plugin without type")?;
        let bin = self.plugins.bin();
        Ok(Invocation::new(self.plugins.plugin(kind), verb)
            .with("CNI_PATH", bin.to_str().context("temporary folder")?)
            .stdin(Value::from(config).to_string()))
    }

    /// Executes it on this runtime's node.
    ///
    /// # Errors
    /// As [`Invocation::run`].
    pub fn execute(&self, invocation: &Invocation) -> Result<Outcome> {
        invocation.run(&self.node)
    }

    /// ADD by the first plugin alone, whatever comes of it.
    ///
    /// # Errors
    /// As [`Invocation::run`].
    pub fn try_add(&self, container: &Container) -> Result<Outcome> {
        self.execute(&self.invocation("ADD", 0, container, None)?)
    }

    /// DEL by the first plugin alone without a prevResult, whatever comes of it.
    ///
    /// # Errors
    /// As [`Invocation::run`].
    pub fn try_del(&self, container: &Container) -> Result<Outcome> {
        self.execute(&self.invocation("DEL", 0, container, None)?)
    }

    /// ADD by all plugins in order, each with the result of the one before; remembers and returns
    /// the last one's.
    ///
    /// # Errors
    /// When one fails.
    pub fn add(&self, container: &Container) -> Result<Value> {
        let mut result: Option<Value> = None;
        for index in 0..self.network.plugins.len() {
            let call = self.invocation("ADD", index, container, result.as_ref())?;
            let outcome = self.execute(&call)?;
            result = Some(outcome.ok().with_context(|| self.what("ADD", index))?);
        }
        let result = result.context("a network without plugins")?;
        self.cache().insert(key(container), result.clone());
        Ok(result)
    }

    /// CHECK by all plugins in order, each with the remembered result.
    ///
    /// # Errors
    /// When one fails, or prints something.
    pub fn check(&self, container: &Container) -> Result<()> {
        let result = self.remembered(container);
        for index in 0..self.network.plugins.len() {
            let call = self.invocation("CHECK", index, container, result.as_ref())?;
            let printed = self.execute(&call)?.ok();
            let printed = printed.with_context(|| self.what("CHECK", index))?;
            anyhow::ensure!(printed.is_null(), "CHECK printed {printed}");
        }
        Ok(())
    }

    /// DEL by all plugins, the last one first, each with the remembered result, which is forgotten
    /// afterwards.
    ///
    /// # Errors
    /// When one fails, or prints something.
    pub fn del(&self, container: &Container) -> Result<()> {
        // Below 0.4.0 there was no prevResult for DEL.
        let result = self
            .remembered(container)
            .filter(|_| !self.network.version.starts_with("0.3."));
        for index in (0..self.network.plugins.len()).rev() {
            let call = self.invocation("DEL", index, container, result.as_ref())?;
            let printed = self.execute(&call)?.ok();
            let printed = printed.with_context(|| self.what("DEL", index))?;
            anyhow::ensure!(printed.is_null(), "DEL printed {printed}");
        }
        self.cache().remove(&key(container));
        Ok(())
    }

    /// GC by the first plugin, whatever comes of it: `valid` is what shall stay.
    ///
    /// # Errors
    /// As [`Invocation::run`].
    pub fn gc(&self, valid: &[&Container]) -> Result<Outcome> {
        let valid: Vec<Value> = valid
            .iter()
            .map(|stays| json!({ "containerID": stays.id, "ifname": stays.ifname }))
            .collect();
        let plugin = self.network.plugins.first().context("no plugin")?;
        let mut config = self.network.execution(plugin, &Map::new());
        config.insert("cni.dev/valid-attachments".to_owned(), valid.into());
        self.execute(&self.bare("GC", 0, config)?)
    }

    /// STATUS of the first plugin, whatever comes of it, as containerd asks.
    ///
    /// # Errors
    /// As [`Invocation::run`].
    pub fn status(&self) -> Result<Outcome> {
        let plugin = self.network.plugins.first().context("no plugin")?;
        let config = self.network.execution(plugin, &Map::new());
        let call = self
            .bare("STATUS", 0, config)?
            .with("CNI_CONTAINERID", "")
            .with("CNI_NETNS", "")
            .with("CNI_IFNAME", "")
            .with("CNI_ARGS", "");
        self.execute(&call)
    }

    /// The result of the last successful ADD.
    pub fn remembered(&self, container: &Container) -> Option<Value> {
        self.cache().get(&key(container)).cloned()
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Value>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn what(&self, verb: &str, index: usize) -> String {
        let kind = self
            .network
            .plugins
            .get(index)
            .map(|plugin| &plugin["type"]);
        format!("{verb} by {}", kind.unwrap_or(&Value::Null))
    }
}

fn key(container: &Container) -> (String, String) {
    (container.id.clone(), container.ifname.clone())
}
