// Hydrogen as its SDK ships it, as a page of its own.

import { Platform, RootViewModel, FeatureFlag, FeatureSet, createNavigation, createRouter } from "hydrogen-view-sdk";
import downloadSandbox from "hydrogen-view-sdk/download-sandbox.html?url";
import worker from "hydrogen-view-sdk/main.js?url";
import olmWasm from "@matrix-org/olm/olm.wasm?url";
import olmJs from "@matrix-org/olm/olm.js?url";
import olmLegacyJs from "@matrix-org/olm/olm_legacy.js?url";
import "hydrogen-view-sdk/assets/theme-element-light.css";

const olm = { wasm: olmWasm, wasmBundle: olmJs, legacyBundle: olmLegacyJs };
const assetPaths = { downloadSandbox, worker, olm, serviceWorker: "sw.js" };
const container = document.querySelector("#app");
const platform = new Platform({ container, assetPaths, config: { push: null }, options: { development: false } });
const navigation = createNavigation();
platform.setNavigation(navigation);
await platform.init();
const urlRouter = createRouter({ navigation, history: platform.history });
urlRouter.attach();
// Verification is one of its experiments, which its settings switch on.
const features = (await FeatureSet.load(platform.settingsStorage)).withFeature(FeatureFlag.CrossSigning);
const view = new RootViewModel({ platform, navigation, urlRouter, features });
platform.createAndMountRootView(view);
view.load();
