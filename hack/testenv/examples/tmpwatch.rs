use anyhow::Result;
use testenv::*;
fn main() -> Result<()> {
    let run = Run::start("tmp")?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let plane =
            ControlPlane::start(&run, Options { cert_manager: false, webhook: false, ..Options::default() }).await?;
        let p = Proxy::start(&run, plane.kube.server()).await?;
        let options = ControllerOptions {
            via: Some(p.url().into()),
            ..ControllerOptions::new("/work/main/target/debug/vault-mesh-issuer")
        };
        let c = Controller::prepare(&plane, options).await?;
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), c.start_again()).await;
        for r in p.recorded() {
            println!("{:?} {} {} {:?}", r.at, r.seen.method, r.seen.path, r.status);
        }
        let pid = c.peer().pid().unwrap();
        println!(
            "{}",
            String::from_utf8_lossy(&tokio::process::Command::new("ss").args(["-tnp"]).output().await?.stdout)
                .lines()
                .filter(|l| l.contains(&format!("pid={pid},")))
                .collect::<Vec<_>>()
                .join("\n")
        );
        println!("{:?} {:?}", c.get("/readyz").await?, c.log());
        Ok(())
    })
}
