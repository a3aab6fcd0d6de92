# Nix: the package, the app, a development shell, checks, and a NixOS module.
#
# flake.lock pins nixpkgs to nixos-unstable of 2026-07-26 (rustc 1.97). Its revision and hash come from the lock files of other public
# projects, which agree on them; Nix compares the hash when it fetches. Dependencies need no hash of their own: all are registry releases
# listed in Cargo.lock.
#
# Verified with Nix 2.8.0 as Debian has it, without nixpkgs, which could not be fetched. In its place stood nixpkgs' own
# `lib` (26.11pre, from nix-community/nixpkgs.lib) beside stubs of the packages and functions used here, which refuse
# arguments that the real ones do not have and values of other types:
#   - the file parses (`nix-instantiate --parse flake.nix`; .ci/run repeats that where nix is installed);
#   - flake.lock is read and taken as complete (`nix flake metadata --no-update-lock-file`);
#   - every output, for all three systems, evaluates to a derivation (`nix flake show --override-input nixpkgs STUB`);
#   - the module's options render, and configurations with every option, with none, and with one of a wrong type evaluate
#     as they should, against stubs of the NixOS options that it sets.
#   - `buildRustPackage` and its `cargoLock`, `bindgenHook`, `formats.toml`, `testers.runNixOSTest`, `cargo-deny`,
#     `cargo-machete` and `mdbook` were found in files of nixpkgs.
#   - the files in `source` suffice to resolve the build in a clean folder, with vendored dependencies and without a network
#     (`cargo vendor --locked --offline`, `unshare -n cargo metadata --locked --offline`).
#   - the build phase by hand in such a folder, without a network and a cache, in the release profile, with RocksDB compiled from
#     source and linked statically: 50 minutes on two busy cores (2026-11-28, rustc 1.95, before `fast_image_resize`, `hickory-resolver`
#     and other dependencies without C code were added); the binary was measured in docs/benchmarks.md.
# Not verified: an actual build by Nix, the other names in nixpkgs, the module on a running NixOS. `nix flake check` does all that.
{
  description = "wick: a Matrix homeserver in which events can expire";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      # Not x86_64-darwin: the pinned nixpkgs throws for it.
      systems = [ "x86_64-linux" "aarch64-linux" "aarch64-darwin" ];
      forEachSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});

      manifest = (lib.importTOML ./Cargo.toml).workspace.package;

      # Only what cargo reads, so that a change to a page does not build RocksDB again.
      source = lib.fileset.toSource {
        root = ./.;
        fileset = lib.fileset.unions [
          ./Cargo.toml
          ./Cargo.lock
          ./clippy.toml
          ./rustfmt.toml
          ./src
          ./tests
          ./wick-example.toml
        ];
      };

      package = pkgs: pkgs.rustPlatform.buildRustPackage {
        pname = "wick";
        inherit (manifest) version;
        src = source;
        cargoLock.lockFile = ./Cargo.lock;

        # libclang, and the flags bindgen needs to read RocksDB's header.
        nativeBuildInputs = [ pkgs.rustPlatform.bindgenHook pkgs.pkg-config ];

        # The release profile, with RocksDB compiled from source.
        cargoBuildFlags = [ "--workspace" "--bin" "wick" ];
        doCheck = false;

        meta = {
          description = "Matrix homeserver in which events can expire";
          license = lib.licenses.asl20;
          mainProgram = "wick";
          platforms = lib.platforms.unix;
        };
      };

      tested = pkgs: (package pkgs).overrideAttrs (previous: {
        pname = "wick-tests";
        # The tidy tests read the pages, too.
        src = self;
        nativeBuildInputs = previous.nativeBuildInputs ++ [ pkgs.clippy pkgs.rustfmt ];
        buildPhase = ''
          runHook preBuild
          cargo fmt --all --check
          cargo build --workspace --bins --offline
          cargo test --workspace --offline
          cargo clippy --workspace --all-targets --offline -- -D warnings
          runHook postBuild
        '';
        installPhase = "touch $out";
        dontFixup = true;
      });
    in
    {
      packages = forEachSystem (pkgs: rec {
        wick = package pkgs;
        default = wick;
      });

      apps = forEachSystem (pkgs: {
        default = {
          type = "app";
          program = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          meta.description = "Start wick on its embedded defaults";
        };
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = [
            pkgs.cargo
            pkgs.rustc
            pkgs.clippy
            pkgs.rustfmt
            pkgs.rust-analyzer
            pkgs.ccache
            pkgs.gnumake
            pkgs.mdbook
            pkgs.cargo-deny
            pkgs.cargo-machete
          ];
          env.LIBCLANG_PATH = "${lib.getLib pkgs.llvmPackages.libclang}/lib";
        };
      });

      checks = forEachSystem (pkgs:
        {
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          tests = tested pkgs;
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
          module = pkgs.testers.runNixOSTest {
            name = "wick-module";
            nodes.machine = {
              imports = [ self.nixosModules.default ];
              services.wick.enable = true;
            };
            testScript = ''
              machine.wait_for_unit("wick.service")
              machine.wait_for_open_port(8008)
              machine.succeed("curl -fsS http://127.0.0.1:8008/_matrix/client/versions")
            '';
          };
        });

      nixosModules.default = { config, lib, pkgs, ... }:
        let
          cfg = config.services.wick;
          format = pkgs.formats.toml { };
          file = format.generate "wick.toml" cfg.settings;
        in
        {
          options.services.wick = {
            enable = lib.mkEnableOption "wick, a Matrix homeserver in which events can expire";

            package = lib.mkOption {
              type = lib.types.package;
              default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
              defaultText = lib.literalExpression "wick.packages.\${system}.default";
              description = "The package to run.";
            };

            settings = lib.mkOption {
              type = lib.types.submodule { freeformType = format.type; };
              default = { };
              example = lib.literalExpression ''{ server.name = "example.org"; }'';
              description = ''
                The configuration, with the sections and keys of `wick-example.toml`. It lands in the
                world-readable Nix store: give secrets by `environmentFile` or `keyFile`.
              '';
            };

            environmentFile = lib.mkOption {
              type = lib.types.nullOr lib.types.path;
              default = null;
              example = "/run/secrets/wick.env";
              description = "A file of `WICK_…=value` lines, read by systemd as root. These override `settings`.";
            };

            keyFile = lib.mkOption {
              type = lib.types.nullOr lib.types.path;
              default = null;
              example = "/run/secrets/wick-signing.key";
              description = ''
                The server's signing key, copied into the state folder when there is none yet. Left out, the
                server makes a key at its first start. Keep a copy of it.
              '';
            };

            port = lib.mkOption {
              type = lib.types.port;
              default = 8008;
              description = "The port that `openFirewall` opens; the listeners themselves are part of `settings`.";
            };

            openFirewall = lib.mkOption {
              type = lib.types.bool;
              default = false;
              description = "Open `port` in the firewall. Not needed behind a reverse proxy on the same machine.";
            };
          };

          config = lib.mkIf cfg.enable {
            services.wick.settings.database.path = lib.mkDefault "/var/lib/wick";

            networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];

            users.users.wick = {
              isSystemUser = true;
              group = "wick";
              home = "/var/lib/wick";
            };
            users.groups.wick = { };

            systemd.services.wick = {
              description = "wick, a Matrix homeserver in which events can expire";
              documentation = [ "https://spec.matrix.org" ];
              wants = [ "network-online.target" ];
              after = [ "network-online.target" ];
              wantedBy = [ "multi-user.target" ];

              serviceConfig = {
                ExecStart = "${lib.getExe cfg.package} --config ${file}";
                User = "wick";
                Group = "wick";
                StateDirectory = "wick";
                StateDirectoryMode = "0700";
                WorkingDirectory = "/var/lib/wick";
                EnvironmentFile = lib.mkIf (cfg.environmentFile != null) [ cfg.environmentFile ];
                LoadCredential = lib.mkIf (cfg.keyFile != null) [ "signing.key:${cfg.keyFile}" ];
                ExecStartPre = lib.mkIf (cfg.keyFile != null) [
                  (lib.getExe (pkgs.writeShellApplication {
                    name = "wick-place-key";
                    text = ''
                      target=/var/lib/wick/signing.key
                      if [ ! -e "$target" ]; then
                        install -m 600 "$CREDENTIALS_DIRECTORY/signing.key" "$target"
                      fi
                    '';
                  }))
                ];

                Restart = "on-failure";
                RestartSec = 2;
                TimeoutStopSec = 60;
                LimitNOFILE = 65536;
                UMask = "0077";

                CapabilityBoundingSet = "";
                LockPersonality = true;
                MemoryDenyWriteExecute = true;
                NoNewPrivileges = true;
                PrivateDevices = true;
                PrivateTmp = true;
                PrivateUsers = true;
                ProcSubset = "pid";
                ProtectClock = true;
                ProtectControlGroups = true;
                ProtectHome = true;
                ProtectHostname = true;
                ProtectKernelLogs = true;
                ProtectKernelModules = true;
                ProtectKernelTunables = true;
                ProtectProc = "invisible";
                ProtectSystem = "strict";
                RemoveIPC = true;
                RestrictAddressFamilies = [ "AF_INET" "AF_INET6" "AF_UNIX" ];
                RestrictNamespaces = true;
                RestrictRealtime = true;
                RestrictSUIDSGID = true;
                SystemCallArchitectures = "native";
                SystemCallErrorNumber = "EPERM";
                SystemCallFilter = [ "@system-service" "~@privileged @resources" ];
              };
            };
          };
        };
    };
}
