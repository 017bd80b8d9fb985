/* src/config/config.h
 *
 * From files to a model, or to a list of mistakes. Pure: no loop, no workers, no live model; reads the files named.
 */
#pragma once
#include "base/diags.h"
#include "model/model.h"

struct config_source {
	const char *path; /* -c FILE; NULL: none */
	struct str
		yaml; /* --config-yaml: merged over the file's tree as Envoy does; .p NULL: none */
	struct str *sets; /* --set postern.NAME=VALUE */
	unsigned nsets;
	const char *admin; /* --admin ADDRESS:PORT or unix:PATH, for sources without admin; NULL */
	const char *node_id, *node_cluster; /* --service-node, --service-cluster; NULL */
	bool lint;                          /* scripts are read for likely mistakes, too */
	const char *
		base_dir; /* against which relative file names are resolved; NULL: the working directory */
};

/* Appends the listener that model->admin asks for, served by the type "postern.admin". False:
 * error in d. */
bool model_add_admin_listener(struct model *m, const struct filter_type *const *types,
			      struct diags *d);
/* NULL: diags has errors. types: the filter types there are, NULL-terminated. The result has one
 * reference. */
struct model *config_compile(const struct config_source *src,
			     const struct filter_type *const *types, struct diags *diags);

/* Appends the listener of model->admin (nothing when there is none), whose only filter is the type named "postern.admin".
 * False: errors added. Before the model is published. */
bool model_add_admin_listener(struct model *m, const struct filter_type *const *types,
			      struct diags *diags);

/* Documents. NULL: error added. The tree lives in a; file and its name must live as long. At most 16 MiB, 64 levels and
 * 1,000,000 values (aliases expanded). An empty text is a DOC_NULL. */
/* The only document; several: error. */
struct doc *doc_from_yaml(struct arena *a, struct diags *d, const char *file, struct str text);
/* A list of the documents, empty ones left out. Keys that are booleans or numbers are written as
 * Go does (istio.md 1.1). */
struct doc *doc_from_yaml_all(struct arena *a, struct diags *d, const char *file, struct str text);
struct doc *doc_from_json(struct arena *a, struct diags *d, const char *file, struct str text);
/* JSON: suffix .json, or it starts with '{' or '[' and is JSON (else it is YAML's flow form). */
struct doc *doc_from_file(struct arena *a, struct diags *d, const char *file);
/* A tree as JSON, indented, behind the n bytes in *out (malloc'd, NULL at first; the caller frees). mask_secrets: keys and
 * passwords given inline become "[redacted]". False: no memory. */
bool doc_to_json(const struct doc *d, char **out, size_t *n, bool mask_secrets);
