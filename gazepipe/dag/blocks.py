"""What each stage reads of the configuration, and nothing else: see `gazepipe.dag.plan`."""

from gazepipe.config import load as configuration
from gazepipe.config.load import Config
from gazepipe.dag import paths
from gazepipe.errors import UserError

PAPER_INPUT = (1, 224, 224)


class Blocks:
    """The blocks of all stages but `tables`, and which runs stand for others where only a network's size matters."""

    def __init__(self, config: Config):
        self.config = config

    def block(self, stage: str, **wildcards: str) -> dict:
        """The configuration that one job reads, as builtins."""
        return getattr(self, f"_block_{stage}")(**wildcards)

    def _block_fetch(self, dataset: str) -> dict:
        entry = self.config.datasets[dataset]
        block = {
            "layout": entry.layout,
            "subjects": entry.subjects,
            "options": self._options(dataset),
            "source": entry.source.model_dump(exclude_none=True, exclude={"consent"}),
            "folder": paths.raw_folder(self.config.run, dataset),
        }
        if entry.source.url is not None:
            block |= {"consent": entry.source.consent, "downloads": paths.DOWNLOADS, "checksums": paths.DATA_CHECKSUMS}
        return block

    def _block_prepare_part(self, dataset: str, part: str) -> dict:
        entry = self.config.datasets[dataset]
        return {
            "layout": entry.layout,
            "subjects": entry.subjects,
            "patch": self._patch(dataset),
            "part": int(part),
            "parts": entry.parts,
            "options": self._options(dataset),
        }

    def _options(self, dataset: str) -> dict:
        """What the layout's reader wants to know beyond the folder."""
        entry = self.config.datasets[dataset]
        if entry.near_eye is not None:
            return entry.near_eye.model_dump()
        return {"manifest": entry.manifest.model_dump(exclude_none=True)} if entry.manifest else {}

    def _patch(self, dataset: str) -> dict:
        return configuration.patch_of(self.config, dataset).model_dump()

    def _block_prepare(self, dataset: str) -> dict:
        entry = self.config.datasets[dataset]
        return {"dataset": dataset, "max_rejected": entry.max_rejected, "by": entry.split.by}

    def _block_split(self, dataset: str) -> dict:
        # `by` is applied when the store is made: its subjects are the groups.
        return self.config.datasets[dataset].split.model_dump(exclude_none=True, exclude={"by"})

    def _block_sheet(self, dataset: str) -> dict:
        entry = self.config.datasets[dataset]
        return {"dataset": dataset, "layout": entry.layout, "options": self._options(dataset)}

    def _block_train(self, dataset: str, model: str, method: str, fold: str, seed: str) -> dict:
        node = self.config.methods[method]
        return {
            "model": self._spec(model, dataset),
            "training": {
                **configuration.training_of(self.config, dataset, model, method).model_dump(),
                "augmentation": configuration.augmentation_of(self.config, dataset).model_dump(),
            },
            "kd": node.kd.model_dump() if node.kd else None,
            "rebirth": node.rebirth.model_dump() if node.rebirth else None,
            "shrink": node.shrink.model_dump() if node.shrink else None,
            "structural": node.structural.model_dump() if node.structural else None,
            "device": self.config.device,
            "fold": int(fold),
            "seed": int(seed),
        }

    def _block_predict(self, dataset: str, model: str, method: str, fold: str, seed: str, test: str) -> dict:
        return {
            "model": self._spec(model, dataset),
            # Another data set is predicted whole.
            "fold": int(fold) if test == dataset else None,
            "device": self.config.device,
            "threads": self.config.training.threads,
        }

    def _block_predict_mean(self, dataset: str, fold: str, seed: str, test: str) -> dict:
        return {"fold": int(fold), "own": test == dataset}

    def _block_profile(self, model: str, method: str) -> dict:
        dataset = self._dataset_for(model)
        spec = self._spec(model, dataset)
        sizes = {"run": spec}
        if configuration.task_of(self.config.models[model]) == "angles":
            # The paper's size is that of the published network: full width.
            sizes["paper"] = {**spec, "width": 1.0, "input": list(PAPER_INPUT)}
        return {"sizes": sizes, **self.config.profiling.model_dump()}

    def _block_explain(self, dataset: str, model: str, method: str, fold: str, seed: str) -> dict:
        return {
            **self.config.explain.model_dump(),
            "fold": int(fold),
            "seed": int(seed),
            "device": self.config.device,
            "threads": self.config.training.threads,
        }

    def _block_explain_seeds(self, dataset: str, model: str, method: str, fold: str) -> dict:
        return {"seeds": self.config.benchmark.seeds}

    def _block_export(self, dataset: str, model: str, method: str) -> dict:
        return self._block_export_errors(**self.deployed_run(dataset, model, method))

    def _block_export_errors(self, dataset: str, model: str, method: str, fold: str, seed: str) -> dict:
        entry = self.config.datasets[dataset]
        trained = self._block_train(dataset, model, method, fold, seed)
        licence = entry.source.url.licence if entry.source.url else entry.licence
        drawn = entry.source.drawn is not None
        return {
            **self.config.deploy.model_dump(),
            **{name: trained[name] for name in ("fold", "seed", "device", "training")},
            "threads": trained["training"]["threads"],
            "model": trained["model"],
            "statistics": self.config.statistics.model_dump(),
            "about": {
                "dataset": dataset,
                "model": model,
                "method": method,
                "drawn": drawn,
                "licence": licence or ("drawn here: none needed" if drawn else "not stated"),
            },
        }

    def _block_speed(self, dataset: str) -> dict:
        pairs = self.deployed(dataset)
        return {
            "networks": [f"{model}/{method}" for model, method in pairs],
            "models": {f"{model}/{method}": self._spec(model, dataset) for model, method in pairs},
            **self.config.profiling.model_dump(),
            # The figure of error against latency is about single images.
            "batches": sorted({1, *self.config.profiling.batches}),
        }

    def _spec(self, model: str, dataset: str) -> dict:
        entry, patch = self.config.models[model], configuration.patch_of(self.config, dataset)
        return {
            "arch": entry.arch,
            "width": entry.width,
            "input": configuration.input_shape(patch),
            "options": entry.options,
        }

    def _datasets_for(self, model: str) -> list[str]:
        """The selected data sets that a model is trained on."""
        task = configuration.task_of(self.config.models[model])
        return [name for name in self.config.benchmark.datasets if self.config.datasets[name].task == task]

    def _dataset_for(self, model: str) -> str:
        """The one that stands for the others where only the network's size matters: all have the same patch."""
        found = self._datasets_for(model)
        if not found:
            raise UserError(f"configuration: benchmark.datasets: none holds what the model {model} predicts; add one")
        return found[0]

    def network_of(self, method: str) -> str:
        """The method that made the network's shape: training, KD and re-birth keep the shape that they start from."""
        node = self.config.methods[method]
        if node.makes_a_shape:
            return method
        origin = node.parent or node.shape
        return self.network_of(origin) if origin else "base" if "base" in self.config.methods else method

    def shaped_run(self, model: str, method: str) -> dict | None:
        """Wildcards of the run whose weights tell a network's shape, where the configuration does not tell it."""
        if not self.config.methods[self.network_of(method)].makes_a_shape:
            return None
        dataset = self._dataset_for(model)
        fold, seed = configuration.folds(self.config, dataset)[0], self.config.benchmark.seeds[0]
        return {"dataset": dataset, "model": model, "method": method, "fold": str(fold), "seed": str(seed)}

    def deployed_run(self, dataset: str, model: str, method: str) -> dict[str, str]:
        """Wildcards of the run that a bundle holds: the first of the folds and seeds."""
        fold, seed = configuration.folds(self.config, dataset)[0], self.config.benchmark.seeds[0]
        return {"dataset": dataset, "model": model, "method": method, "fold": str(fold), "seed": str(seed)}

    def deployed(self, dataset: str) -> list[tuple[str, str]]:
        """The (model, method) pairs that are exported and timed on a data set, in the order of the configuration."""
        selected = {"/".join(pair): pair for pair in configuration.networks_for(self.config, dataset)}
        return [selected[name] for name in self.config.benchmark.deploy if name in selected]
