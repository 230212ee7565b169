//! The CNI plugin `shunt-cni`.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use shunt_cni::{Patience, fault, serve};

fn main() -> ExitCode {
    let served = catch_unwind(AssertUnwindSafe(|| {
        let stdin = io::stdin();
        // Nobody types a configuration: `CNI_COMMAND=VERSION shunt-cni` shall answer.
        let limit = if stdin.is_terminal() { 0 } else { u64::MAX };
        serve(
            &|name| std::env::var_os(name),
            &mut stdin.lock().take(limit),
            &mut io::stdout().lock(),
            &Patience::default(),
        )
    }));
    ExitCode::from(served.unwrap_or_else(|_| {
        println!("{}", fault());
        1
    }))
}
