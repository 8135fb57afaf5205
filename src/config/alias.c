/* alias.c - recognises option names of other training programs and names plumb's option for them.
 * Layer 3. Includes option.h, base/.
 *
 * Source: TRL and transformers (TrainingArguments, SFTConfig, DPOConfig, GRPOConfig), OpenRLHF's
 * command line, verl's configuration. Of a dotted name only the last part is compared. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "config/option.h"

static const struct alias {
    const char *names; /* names in other programs, separated by blanks */
    /* Names of plumb's options with the same meaning, separated by blanks; "" if plumb has none.
     * The error message for the unknown key names those that the command uses, or all of them if
     * it uses none. */
    const char *options;
    const char *remark; /* note for the message; NULL if there is none */
} aliases[] = {
    {"model_name_or_path model_name model_path model_id pretrain base_model", "model", NULL},
    {"tokenizer_name_or_path tokenizer_name tokenizer_path", "tokenizer", NULL},
    {"output save_path ckpt_path default_local_dir logging_dir out_dir", "output_dir", NULL},
    {"resume_from_checkpoint load_checkpoint resume_mode", "resume", NULL},
    {"overwrite_output_dir", "resume", "a folder that holds a run is never overwritten"},
    {"data_seed", "seed", NULL},
    {"bf16 fp16 tf32 torch_dtype precision mixed_precision", "dtype", "float32 or bfloat16"},
    {"no_cuda use_cpu", "device", NULL},
    {"ddp_timeout", "comm.timeout", NULL},
    {"dataset_name dataset dataset_path data_path train_file train_files train_dataset prompt_data",
     "data.train data.prompts", "a file of JSON lines"},
    {"eval_dataset validation_file val_files eval_file val_dataset", "data.eval", NULL},
    {"max_length max_seq_length max_seq_len max_len cutoff_len model_max_length", "data.max_tokens",
     NULL},
    {"max_prompt_length prompt_max_len max_query_length", "data.max_prompt_tokens", NULL},
    {"chat_template_path apply_chat_template", "data.chat_template",
     "auto: the template of the tokenizer's folder"},
    {"input_template", "data.prompt_template", NULL},
    {"chat_template_kwargs apply_chat_template_kwargs", "data.template_arguments", NULL},
    {"system_prompt system_message default_system", "data.system", NULL},
    {"assistant_only_loss train_on_inputs", "data.assistant_only", NULL},
    {"truncation_mode truncation_side", "data.overlong",
     "TRL's keep_start is truncate_right, keep_end is truncate_left"},
    {"max_samples max_train_samples", "data.limit", NULL},
    {"max_completion_length response_length generate_max_len max_response_length "
     "max_completion_tokens max_generate_length",
     "generate.max_new_tokens", NULL},
    {"num_generations n_samples_per_prompt num_return_sequences rollout_n num_samples n best_of_n",
     "generate.group_size eval.samples", NULL},
    {"do_sample", "generate.temperature", "0 always takes the most likely token"},
    {"stop_strings stop_words stop_token stop_sequences", "generate.stop", NULL},
    {"micro_rollout_batch_size max_num_seqs", "generate.slots", NULL},
    {"loss_type", "method.name",
     "TRL's sigmoid is dpo; ipo takes sums over tokens as its paper does, TRL's takes means"},
    {"algorithm advantage_estimator adv_estimator", "method.name", NULL},
    {"ref_model ref_pretrain ref_model_name_or_path", "method.reference", NULL},
    {"kl_coef init_kl_coef kl_loss_coef kl_penalty kl_ctrl", "method.beta",
     "no KL penalty is added to rewards; beta scales log-ratios to the reference"},
    {"label_smoothing_factor", "",
     "labels of tokens are not smoothed; method.label_smoothing smooths those of dpo's pairs"},
    {"center_rewards_coefficient use_weighting ld_alpha rpo_alpha loss_weights f_divergence_type",
     "", "a loss has no further terms or weights than its method's (plumb help)"},
    {"reward_model_path reward_pretrain reward_model_name_or_path reward_model", "reward.model",
     NULL},
    {"reward_funcs reward_functions", "reward.functions reward.command", NULL},
    {"remote_rm_url reward_fn custom_reward_function", "reward.command", NULL},
    {"num_train_epochs num_epochs max_epochs total_epochs n_epochs", "train.epochs", NULL},
    {"num_ppo_epochs ppo_epochs num_iterations_per_batch", "train.epochs", NULL},
    {"num_episodes num_rollouts total_episodes num_iterations", "train.iterations", NULL},
    {"rollout_batch_size", "train.prompts_per_iteration", NULL},
    {"max_train_steps total_training_steps num_training_steps num_steps", "train.max_steps", NULL},
    {"per_device_train_batch_size micro_train_batch_size per_device_eval_batch_size "
     "ppo_micro_batch_size_per_gpu micro_batch_size_per_gpu",
     "train.micro_batch_size", NULL},
    {"ppo_max_token_len_per_gpu max_token_len_per_gpu train_max_tokens_per_gpu max_tokens_per_gpu "
     "use_dynamic_bsz use_dynamic_batch",
     "train.micro_batch_tokens", NULL},
    {"batch_size", "train.global_batch_size generate.slots",
     "records of one optimizer step over all ranks, or sequences generated at the same time"},
    {"train_batch_size total_batch_size ppo_mini_batch_size mini_batch_size",
     "train.global_batch_size", "records of one optimizer step, over all ranks"},
    {"gradient_accumulation_steps grad_accum accumulate_grad_batches", "train.global_batch_size",
     "records of one optimizer step, over all ranks: steps of accumulation follow from it"},
    {"lr actor_learning_rate critic_learning_rate", "train.learning_rate", NULL},
    {"lr_scheduler_type lr_scheduler scheduler", "train.lr_schedule", NULL},
    {"warmup_steps num_warmup_steps lr_warmup_ratio lr_warmup_steps_ratio lr_warmup_steps",
     "train.warmup_ratio", "a share of all steps"},
    {"min_lr min_lr_rate lr_end", "train.min_lr_ratio", "a share of the peak"},
    {"adam_beta1", "train.beta1", NULL},
    {"adam_beta2", "train.beta2", NULL},
    {"adam_betas betas", "train.beta1 train.beta2", NULL},
    {"adam_epsilon adam_eps eps", "train.epsilon", NULL},
    {"l2 wd", "train.weight_decay", NULL},
    {"clip_grad max_norm grad_clip gradient_clip_val", "train.max_grad_norm", NULL},
    {"gradient_checkpointing activation_checkpointing enable_gradient_checkpointing",
     "train.recompute", NULL},
    {"adam_offload cpu_offload optimizer_offload", "train.offload_moments",
     "moments are always sharded over the ranks"},
    {"zero_stage deepspeed fsdp", "train.shard train.offload_moments",
     "moments are always sharded over the ranks (stage 1), gradients with train.shard (stage 2)"},
    {"logging_steps log_steps log_freq", "train.log_every", NULL},
    {"eval_steps eval_strategy evaluation_strategy test_freq eval_freq eval_interval",
     "train.eval_every", NULL},
    {"save_steps save_every save_strategy save_freq save_interval checkpointing_steps "
     "checkpoint_every checkpoint_interval",
     "checkpoint.every checkpoint.interval", "every so many steps or iterations, or seconds"},
    {"save_total_limit max_ckpt_num", "checkpoint.keep_last", NULL},
    {"load_best_model_at_end", "checkpoint.keep_best", "the link `best` points at the best one"},
    {"metric_for_best_model", "checkpoint.best_metric", NULL},
    {"save_only_model", "checkpoint.optimizer", NULL},
    {"max_shard_size shard_size", "checkpoint.shard_bytes", NULL},
    {"report_to logger loggers use_tensorboard", "report.to", "tensorboard, prometheus, mlperf"},
    {"use_wandb run_name wandb_project project_name", "",
     "every run writes metrics.jsonl, train.log and report.html into output_dir; report.to adds "
     "tensorboard, prometheus and mlperf"},
    {"packing group_by_length use_dynamic_bsz", "",
     "sequences are never padded: a micro-batch is packed by itself"},
    {"completion_only_loss assistant_only_loss train_on_inputs", "",
     "the loss is over completions alone"},
    {"attn_implementation use_flash_attn flash_attn", "", "there is one attention per device"},
    {"dataloader_num_workers num_proc preprocessing_num_workers", "threads",
     "of the whole computation, per rank"},
    {"use_peft lora_rank lora_r", "lora.r", "0 trains all weights"},
    {"lora_alpha", "lora.alpha", NULL},
    {"target_modules lora_target_modules lora_target", "lora.targets", NULL},
    {"use_rslora", "lora.rslora", NULL},
    {"adapter_name_or_path lora_path lora_adapter_path", "lora.adapter", NULL},
    {"lora_dropout dropout attention_dropout attn_pdrop disable_dropout disable_dropout_in_model "
     "neftune_noise_alpha",
     "", "models and adapters are trained without dropout and without noise"},
    {"optim optimizer optimizer_type optim_type", "",
     "the optimizer is AdamW (train.beta1, "
     "train.beta2, train.epsilon, "
     "train.weight_decay)"},
    {"load_in_4bit load_in_8bit quantization quantization_bit use_qlora bnb_4bit_quant_type "
     "bnb_4bit_compute_dtype bits",
     "", "weights are not quantized; dtype=bfloat16 halves their memory, lora.r trains an adapter"},
    {"modules_to_save additional_target_modules", "",
     "an adapter changes the projections in lora.targets; a reward model's score is trained "
     "beside it"},
    {"use_dora lora_bias bias init_lora_weights layers_to_transform rank_pattern alpha_pattern "
     "exclude_modules layers_pattern trainable_token_indices target_parameters loraplus_lr_ratio",
     "", "of peft's variants of LoRA, plumb has rank-stabilized scaling (lora.rslora)"},
    {"task_type", "", "the command is the task: plumb sft, reward, prefer or align"},
    {"use_liger use_liger_kernel use_liger_loss torch_compile use_unsloth use_cache", "",
     "there is one implementation per device"},
    {"use_vllm vllm_mode vllm_gpu_memory_utilization vllm_num_engines colocate_all_models "
     "gpu_memory_utilization",
     "", "plumb generates in the same processes that train"},
    {"tensor_parallel_size vllm_tensor_parallel_size pipeline_parallel_size sp_size "
     "sequence_parallel_size context_parallel_size ring_attn_size",
     "", "the ranks share out prompts and micro-batches; each of them holds the whole model"},
    {"gpus num_gpus n_gpus nproc_per_node num_processes nnodes num_nodes trainer_n_gpus_per_node "
     "n_gpus_per_node actor_num_gpus_per_node",
     "", "the launcher decides: mpirun -n RANKS plumb ..., or srun; a rank has one GPU"},
    {"config config_file yaml", "", "name the file without an option: plumb COMMAND FILE.yaml"},
    {"eos_token pad_token bos_token padding_side pad_to_multiple_of", "",
     "special tokens are those of the model's folder, and sequences are never padded"},
    {"eval_batch_size", "train.micro_batch_size", NULL},
    {"dataset_text_field dataset_kwargs input_key prompt_key output_key label_key messages_key "
     "chosen_key rejected_key eval_input_key",
     "", "fields have fixed names: prompt, completion, messages, text, chosen, rejected"},
    {"reference_free ref_free precompute_ref_log_probs precompute_ref_batch_size", "",
     "method.reference names the reference; its log-probs are computed in each step"},
    {"sync_ref_model ref_model_sync_steps ref_model_mixup_alpha", "method.reference", NULL},
    {"scale_rewards normalize_reward reward_normalization whiten_rewards", "method.reward_norm",
     NULL},
    {"shuffle_dataset dataset_shuffle", "data.shuffle", NULL},
    {"dataloader_drop_last drop_last", "",
     "an epoch whose records do not fill its last step ends with a smaller one"},
    {"add_generation_prompt", "",
     "prompts end with the generation prompt, and trained records "
     "do not"},
    {"verbose debug log_level", "log_level", NULL},
    {"push_to_hub hub_model_id", "", "nothing is uploaded"},
};

/* Names of methods and commands in other programs, and what plumb has instead. */
static const struct {
    const char *names, *remark;
    /* method: a user may give the name as method.name; command: as the command */
    bool method, command;
} elsewhere[] = {
    {"grpo ppo rloo reinforce dapo gspo dr_grpo",
     "plumb has no policy gradient methods; rrhf, lire, pro, raft and psle (plumb align) learn "
     "from "
     "several scored answers to a prompt",
     true, true},
    {"kto orpo simpo cpo slic bco",
     "plumb does not have it; dpo, ipo, aps, rdo and real (plumb "
     "align, plumb prefer) learn from preferences",
     true, true},
    {"best_of_n bon rejection_sampling rft star expert_iteration", "plumb calls it raft", true,
     true},
    {"lora qlora dora peft", "it says which weights are trained and goes with any method", true,
     true},
    {"sft", "it is a command: plumb sft", true, false},
    {"reward rm reward_model", "it is a command: plumb reward", true, false},
    {"rm", "plumb calls it reward", false, true},
    {"train finetune fine_tune", "name what is trained: plumb sft, reward, prefer or align", false,
     true},
    {"infer inference chat predict serve", "plumb generate writes completions of given prompts",
     false, true},
    {"dpo ipo", "it is a method: plumb prefer method.name=dpo", false, true},
    {"psle raft rrhf lire pro spa vcb selm dlma optune rdo aps real context_distillation",
     "it is a method: plumb align method.name=NAME", false, true},
};

static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = list; *at; at += strcspn(at, " "), at += strspn(at, " "))
        if (strcspn(at, " ") == n && !strncmp(at, word, n))
            return true;
    return false;
}

/* Writes the normalised name of key to out: "--Max-Length" becomes "max_length", and
 * "trainer.save_freq" becomes "save_freq". */
static void plain(char out[128], const char *key)
{
    const char *dot = strrchr(key, '.');
    key = dot ? dot + 1 : key;
    snprintf(out, 128, "%s", key + strspn(key, "-+"));
    for (char *p = out; *p; p++)
        *p = *p == '-' ? '_' : (char)tolower((unsigned char)*p);
}

/* Writes the options for the message to out: "'train.epochs'", or several joined with "or". Options
 * that the command does not use are left out, unless it uses none of them. Returns false in this
 * last case. */
static bool name_options(char *out, size_t size, const char *options, const char *command)
{
    size_t at = 0;
    int pass = 0;
    out[0] = '\0';
    for (; pass < 2 && !at; pass++)
        for (const char *p = options; *p; p += strspn(p, " ")) {
            char path[64];
            const size_t n = strcspn(p, " ");
            snprintf(path, sizeof(path), "%.*s", (int)n, p);
            p += n;
            const int i = plumb_option_index(path);
            if (i < 0 || (!pass && !plumb_option_used(plumb_option_at(i), command)))
                continue;
            if (at < size)
                at += (size_t)snprintf(out + at, size - at, "%s'%s'", at ? " or " : "", path);
        }
    return pass < 2;
}

plumb_status plumb_alias_refuse(const char *key, const char *command, const char *where)
{
    char name[128], options[256];
    plain(name, key);
    for (int i = 0; key[0] == '-' && plumb_option_at(i); i++)
        PLUMB_REQUIRE(strcmp(plumb_option_at(i)->name, name) != 0, PLUMB_ERR_CONFIG,
                      "%s: options are written without dashes: %s=VALUE", where, name);
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        const struct alias *a = &aliases[i];
        if (!has_word(a->names, name))
            continue;
        const bool used = name_options(options, sizeof(options), a->options, command);
        PLUMB_REQUIRE(!*options, PLUMB_ERR_CONFIG,
                      "%s: unknown key '%s': plumb calls it %s%s%s%s%s%s", where, key, options,
                      a->remark ? " (" : "", a->remark ? a->remark : "", a->remark ? ")" : "",
                      used ? "" : ", which is no option of ", used ? "" : command);
        PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: unknown key '%s': plumb has no such option: %s", where,
                   key, a->remark);
    }
    return PLUMB_OK;
}

const char *plumb_alias_elsewhere(const char *name, bool command)
{
    char word[128];
    plain(word, name);
    for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
        if ((command ? elsewhere[i].command : elsewhere[i].method) &&
            has_word(elsewhere[i].names, word))
            return elsewhere[i].remark;
    return NULL;
}
