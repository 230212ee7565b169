//! Checklist, "Invocation", and the environment as bad input: the right code, nothing half done.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shunt_tests::cni::{CniNode, CniPod, Container, Runtime};
use shunt_tests::command::run;
use shunt_tests::netns::Netns;

use crate::{lone, modern, must_reach};

/// Checklist: "ADD and CHECK need container id, netns and ifname; DEL needs container id and
/// ifname (netns optional)"; "Empty means absent"; "4 environment (name the variable)".
#[test]
fn what_is_missing_is_named() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let pod = CniPod::add(&runtime, "pod")?;
    let fresh = Container::new(&pod.netns.path());
    for (verb, needed) in [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ] {
        for variable in needed {
            let call = runtime.invocation(verb, 0, &fresh, Some(&pod.result))?;
            for broken in [call.clone().without(variable), call.with(variable, "")] {
                let outcome = runtime.execute(&broken)?;
                outcome
                    .must_fail(4, &[variable])
                    .with_context(|| format!("{verb} without {variable}"))?;
            }
        }
    }
    for call in [
        runtime
            .invocation("ADD", 0, &fresh, None)?
            .without("CNI_COMMAND"),
        runtime.invocation("", 0, &fresh, None)?,
        runtime.invocation("NONSENSE", 0, &fresh, None)?,
        runtime.invocation("add", 0, &fresh, None)?,
    ] {
        runtime.execute(&call)?.must_fail(4, &["CNI_COMMAND"])?;
    }
    // IPAM cannot be found without.
    let call = runtime
        .invocation("ADD", 0, &fresh, None)?
        .without("CNI_PATH");
    runtime.execute(&call)?.must_fail(4, &["CNI_PATH"])?;
    assert_eq!(node.pods()?.len(), 1);
    runtime.del(&pod.container)?;
    node.must_be_clean()
}

/// Checklist: "STATUS, GC and VERSION none of them"; "containerd sets `CNI_CONTAINERID=` on
/// STATUS".
#[test]
fn status_and_gc_need_no_variables() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(modern(&node)?);
    assert!(runtime.status()?.ok()?.is_null());
    assert!(runtime.gc(&[])?.ok()?.is_null());
    assert_eq!(node.plugins.calls("modern"), ["STATUS", "GC"]);
    node.must_be_clean()
}

/// Checklist: "Container id `^[A-Za-z0-9][A-Za-z0-9_.-]*$`; ifname 1 to 15 characters, not `.` or
/// `..`, no `/`, `:` or white space".
#[test]
fn hostile_names_are_refused() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    let good = Container::new(&netns.path());
    let long = "x".repeat(4000);
    let ids = [
        "../../etc/passwd",
        "-a",
        ".",
        "_a",
        "a/b",
        "a b",
        "a\nb",
        "ä",
        "a;b",
        &long,
    ];
    let names = [
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\tb",
        "sixteen-letters-",
        "../eth0",
        &long,
    ];
    for (variable, values) in [("CNI_CONTAINERID", &ids[..]), ("CNI_IFNAME", &names)] {
        for value in values {
            for verb in ["ADD", "DEL"] {
                let call = runtime
                    .invocation(verb, 0, &good, None)?
                    .with(variable, *value);
                let outcome = runtime.execute(&call)?;
                // A long id is allowed by the rule; it must not get further than an error.
                let checked = match *value == long && variable == "CNI_CONTAINERID" {
                    true if verb == "DEL" => outcome
                        .ok()
                        .map(drop)
                        .or_else(|_| outcome.error().map(drop)),
                    true => outcome.error().map(drop),
                    false => outcome.must_fail(4, &[variable]).map(drop),
                };
                checked.with_context(|| format!("{verb} with {variable}={value:?}"))?;
            }
        }
    }
    let queued = node.queue()?;
    ensure!(queued.is_empty(), "{queued:?}");
    node.must_be_clean()
}

/// "path traversal in CNI_NETNS": what is no network namespace of a pod is refused, at once.
#[test]
fn hostile_namespaces_are_refused() -> Result<()> {
    let (_testbed, node) = lone()?;
    let runtime = node.runtime(node.network());
    let netns = Netns::new("pod")?;
    let scratch = node.plugins.scratch();
    let file = scratch.join("file");
    std::fs::write(&file, "no namespace")?;
    let fifo = scratch.join("fifo");
    run(&["mkfifo", fifo.to_str().context("path")?])?;
    let to_file = scratch.join("link");
    std::os::unix::fs::symlink(&file, &to_file)?;
    let looped = scratch.join("loop");
    std::os::unix::fs::symlink(&looped, &looped)?;
    let own = node.node.netns.path();
    let hostile = [
        "/run/netns/no-such-namespace",
        "/run/netns/../../etc/passwd",
        "run/netns/pod",
        "../../run/netns/pod",
        "/",
        "/dev/zero",
        "/dev/null",
        "/proc/1/ns/mnt",
        "/proc/1/ns/user",
        file.to_str().context("path")?,
        fifo.to_str().context("path")?,
        to_file.to_str().context("path")?,
        looped.to_str().context("path")?,
        scratch.to_str().context("path")?,
        &own,
    ];
    let links = node.links()?;
    for path in hostile
        .into_iter()
        .map(str::to_owned)
        .chain(["/x".repeat(3000)])
    {
        let container = Container::new(&path);
        let outcome = runtime.try_add(&container)?;
        let what = || format!("CNI_NETNS={:.80}: {}", path, outcome.stdout);
        let error = outcome.error().with_context(what)?;
        ensure!([3, 4, 7].contains(&error.code), "{}", what());
        ensure!(
            outcome.took < Duration::from_secs(3),
            "{:?}: {}",
            outcome.took,
            what()
        );
        // The runtime's clean-up succeeds whatever the path is.
        runtime.try_del(&container)?.ok().with_context(what)?;
    }
    assert_eq!(node.links()?, links);
    // Nor by a way round that leads to the right place.
    let devious = format!("/run/netns/../netns/{}", netns.name());
    let container = Container::new(&devious);
    runtime.try_add(&container)?.must_fail(4, &["CNI_NETNS"])?;
    runtime.try_del(&container)?.ok()?;
    node.must_be_clean()
}

/// Checklist: "Ignore unknown CNI_ARGS and JSON keys, `capabilities` too. Kubernetes' ARGS come in
/// random order".
#[test]
fn what_we_do_not_know_is_ignored() -> Result<()> {
    let (_testbed, node) = lone()?;
    let network = node
        .network()
        .set("someKey", serde_json::json!({"deep": [1, 2, {"er": null}]}))
        .set(
            "args",
            serde_json::json!({"labels": [{"key": "a", "value": "b"}]}),
        );
    let network = {
        let mut network = network;
        network.plugins[0]["capabilities"]["io.kubernetes.cri.pod-annotations"] = true.into();
        network.plugins[0]["capabilities"]["cgroupPath"] = true.into();
        network
    };
    let runtime = node.runtime(network);
    let peer = CniPod::add(&runtime, "peer")?;
    for args in [
        "",
        "IgnoreUnknown=1;K8S_POD_NAME=b",
        "IgnoreUnknown=1;FOO=BAR;K8S_POD_NAME=b;K8S_POD_NAMESPACE=n;BAZ=",
        "K8S_POD_NAMESPACE=n;K8S_POD_NAME=b;IgnoreUnknown=true;K8S_POD_UID=u",
    ] {
        let pod = CniPod::add_with(&runtime, "pod", |mut container| {
            args.clone_into(&mut container.args);
            container
                .offer(
                    "io.kubernetes.cri.pod-annotations",
                    serde_json::json!({"a": "b"}),
                )
                .offer("cgroupPath", "/kubepods/pod1")
        })
        .with_context(|| format!("CNI_ARGS={args}"))?;
        must_reach(&pod, &peer)?;
        must_be_called(&node, &runtime, &pod, args)?;
        runtime.del(&pod.container)?;
    }
    runtime.del(&peer.container)?;
    node.must_be_clean()
}

/// The pod's name for people comes from Kubernetes' arguments.
fn must_be_called(node: &CniNode, runtime: &Runtime, pod: &CniPod, args: &str) -> Result<()> {
    let pods = node.pods()?;
    let info = pods
        .iter()
        .find(|info| info.key.container_id == pod.container.id)
        .context("the attachment")?;
    assert_eq!(info.key.network, runtime.network().name);
    let name = info.pod.as_deref();
    if args.contains("K8S_POD_NAMESPACE=n") {
        assert_eq!(name, Some("n/b"));
    } else if args.is_empty() {
        assert_eq!(name, None);
    }
    Ok(())
}
