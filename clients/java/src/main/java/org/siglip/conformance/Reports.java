package org.siglip.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import org.siglip.client.Embedding;
import org.siglip.client.Failure;
import org.siglip.v1.ClassificationResult;
import org.siglip.v1.ItemError;
import org.siglip.v1.LabelScore;
import org.siglip.v1.ModelInfo;

/** Fields of a report. */
final class Reports {
  private Reports() {}

  static void failure(Failure failure, JsonObject report) {
    report.addProperty("code", failure.code().name());
    report.addProperty("message", failure.message());
    failure.info().ifPresent(info -> info(info, report));
    failure.retryDelay().ifPresent(delay -> report.addProperty("retry_delay_ms", delay.toMillis()));
    if (!failure.violations().isEmpty()) {
      JsonArray violations = new JsonArray();
      failure.violations().forEach(violation -> violations.add(violation(violation)));
      report.add("field_violations", violations);
    }
  }

  private static void info(ErrorInfo info, JsonObject report) {
    report.addProperty("reason", info.getReason());
    report.addProperty("domain", info.getDomain());
    JsonObject metadata = new JsonObject();
    info.getMetadataMap().forEach(metadata::addProperty);
    report.add("metadata", metadata);
  }

  private static JsonObject violation(BadRequest.FieldViolation violation) {
    JsonObject found = new JsonObject();
    found.addProperty("field", violation.getField());
    found.addProperty("description", violation.getDescription());
    return found;
  }

  static void model(ModelInfo model, JsonObject report) {
    JsonObject found = new JsonObject();
    found.addProperty("name", model.getName());
    found.addProperty("fingerprint", model.getFingerprint());
    report.add("model", found);
  }

  /** All about the items of a call. */
  static void embeddings(List<Embedding> found, JsonObject report) {
    List<ItemError> failed = new ArrayList<>();
    JsonArray undecodable = new JsonArray();
    for (int i = 0; i < found.size(); i++) {
      ItemError error = found.get(i).error();
      if (isUndecodable(error)) {
        undecodable.add(i);
      } else if (error != null) {
        failed.add(error);
      }
    }
    vectors(found, report);
    itemErrors(failed, report);
    undecodable(undecodable, report);
  }

  static boolean isUndecodable(ItemError error) {
    return error != null && error.getReason().equals(Embedding.UNDECODABLE);
  }

  static void undecodable(JsonArray indices, JsonObject report) {
    if (indices.size() > 0) {
      report.add("undecodable", indices);
    }
  }

  /** Null stands for an item without a result. */
  static void vectors(List<Embedding> found, JsonObject report) {
    JsonArray vectors = new JsonArray();
    JsonArray dtypes = new JsonArray();
    for (Embedding embedding : found) {
      boolean whole = embedding != null && embedding.error() == null;
      vectors.add(whole ? numbers(embedding.vector()) : JsonNull.INSTANCE);
      dtypes.add(whole ? new JsonPrimitive(embedding.dtype().name()) : JsonNull.INSTANCE);
    }
    report.add("vectors", vectors);
    report.add("dtypes", dtypes);
  }

  static void itemErrors(List<ItemError> errors, JsonObject report) {
    JsonArray listed = new JsonArray();
    for (ItemError error : errors) {
      JsonObject one = new JsonObject();
      one.addProperty("index", error.getIndex());
      one.addProperty("code", Status.fromCodeValue(error.getCode()).getCode().name());
      one.addProperty("reason", error.getReason());
      one.addProperty("message", error.getMessage());
      one.addProperty("field", error.getField());
      one.addProperty("retryable", error.getRetryable());
      listed.add(one);
    }
    if (listed.size() > 0) {
      report.add("item_errors", listed);
    }
  }

  static void classified(List<ClassificationResult> results, JsonObject report) {
    JsonArray images = new JsonArray();
    List<ItemError> errors = new ArrayList<>();
    for (ClassificationResult result : results) {
      if (result.hasError()) {
        errors.add(result.getError());
        images.add(JsonNull.INSTANCE);
      } else {
        images.add(labels(result.getScores().getScoresList()));
      }
    }
    report.add("images", images);
    itemErrors(errors, report);
  }

  private static JsonArray labels(List<LabelScore> scores) {
    JsonArray labels = new JsonArray();
    for (LabelScore score : scores) {
      JsonObject label = new JsonObject();
      label.addProperty("label", score.getLabel());
      label.addProperty("index", score.getLabelIndex());
      label.add("probability", number(score.getProbability()));
      label.add("logit", number(score.getLogit()));
      labels.add(label);
    }
    return labels;
  }

  static JsonArray rows(float[][] matrix) {
    JsonArray rows = new JsonArray();
    for (float[] row : matrix) {
      rows.add(numbers(row));
    }
    return rows;
  }

  private static JsonArray numbers(float[] found) {
    JsonArray numbers = new JsonArray();
    for (float one : found) {
      numbers.add(number(one));
    }
    return numbers;
  }

  /** Null for what JSON cannot hold. */
  private static JsonElement number(float found) {
    return Float.isFinite(found) ? new JsonPrimitive(found) : JsonNull.INSTANCE;
  }
}
